// Tells whoever submitted from this browser that a job of theirs has ended: aloud to a screen reader,
// and as a notification of the system while nobody looks at the tab.

import { byId, setHidden } from "./dom.js";
import { plural, title } from "./format.js";
import { announce } from "./frame.js";

const KEPT = 200;
const KEY = "safelight.submitted";
const WORDS = {
  "job-completed": "is ready",
  "job-failed": "failed",
  "job-cancelled": "was cancelled",
  "job-expired": "expired",
};

export class Notifier {
  #mine = new Set(JSON.parse(sessionStorage.getItem(KEY) ?? "[]"));

  constructor(store) {
    this.store = store;
    const button = byId("notify");
    // Only a secure context has notifications; a service in a LAN over plain HTTP is none.
    if ("Notification" in window && isSecureContext) {
      setHidden(button, Notification.permission !== "default");
      button.addEventListener("click", async () => {
        setHidden(button, (await Notification.requestPermission()) !== "default");
      });
    }
  }

  /** This browser submitted the job, or the batch. */
  remember(id) {
    this.#mine.add(id);
    sessionStorage.setItem(KEY, JSON.stringify([...this.#mine].slice(-KEPT)));
  }

  event({ stream, type }) {
    const job = type in WORDS ? this.store.jobs.get(stream.slice("job/".length)) : undefined;
    if (!job || !(this.#mine.has(job.id) || this.#mine.has(job.batch))) return;
    const waiting = this.store.waiting().length;
    announce(`${title(job)} ${WORDS[type]}${waiting ? `, ${plural(waiting, "job")} waiting` : ""}`);
    if (document.hasFocus() || !("Notification" in window) || Notification.permission !== "granted") return;
    show(job, `Your job ${WORDS[type]}`);
  }
}

function show(job, text) {
  const icon = job.artifacts[0]?.url ?? "/static/favicon.svg";
  let notification;
  try {
    // The tag: the same job told by two tabs is one notification.
    notification = new Notification(text, { body: title(job).slice(0, 120), icon, tag: job.id });
  } catch {
    return; // Android lets only a service worker notify; the page has said it aloud already
  }
  notification.onclick = () => {
    window.focus();
    location.hash = `#/jobs/${job.id}`;
    notification.close();
  };
}
