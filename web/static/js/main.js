// Puts the page together: store, socket and views; one flush a frame draws whatever has changed since the last.

import * as api from "./api.js";
import { byId, setHidden } from "./dom.js";
import { SubmitForm } from "./form.js";
import { Frame } from "./frame.js";
import { Gallery } from "./gallery.js";
import { JobPage } from "./job_page.js";
import { Login } from "./login.js";
import { Notifier } from "./notifier.js";
import { Previews } from "./previews.js";
import { Queue } from "./queue.js";
import { PushSocket } from "./socket.js";
import { Store } from "./store.js";
import { Workers } from "./workers.js";

const WORKERS_MS = 10_000; // that a worker's connection broke is no event: ask now and then
const TICK_MS = 1_000;

const store = new Store();
const previews = new Previews();
const socket = new PushSocket(store, { onPreview, onState });
const frame = new Frame(socket, store);
const login = new Login(start);
const notifier = new Notifier(store);
const form = new SubmitForm({ store, onSubmitted: (id) => notifier.remember(id) });
const queue = new Queue({ store, previews, isLive: () => socket.state === "live" });
const gallery = new Gallery(store);
const workers = new Workers(store);
const jobPage = new JobPage({ store, previews, onAgain: again });

let isDrawing = false;
let leftAt_px = 0; // where the board was scrolled to when a job was opened
const asked = new Set(); // ids of missing jobs on their way

store.listen((what, detail) => {
  if (what === "event") notifier.event(detail);
  if (what === "event") jobPage.event(detail);
  if (what === "event" && detail.type === "queue-pruned") gallery.prune(detail.data);
  if (what === "drop") gallery.drop();
  if (what === "drop") jobPage.refresh();
  if (what === "event" && detail.stream.startsWith("worker/")) askWorkers();
  draw();
});
addEventListener("hashchange", route);
document.addEventListener("visibilitychange", draw);
setInterval(() => document.hidden || queue.tick(), TICK_MS);
setInterval(() => document.hidden || askWorkers(), WORKERS_MS);
byId("skip").addEventListener("click", skip);

start();

/** Begin, or begin again with a key. */
async function start() {
  login.hide();
  route();
  try {
    await form.load();
  } catch (problem) {
    if (problem.status === 401) login.show();
    else if (problem.status === 403) login.show(problem.message);
    else setTimeout(start, 2_000);
    return;
  }
  socket.connect();
}

function draw() {
  // Nobody sees a hidden tab but for its title; the rest is drawn when somebody looks.
  if (document.hidden) frame.draw();
  if (isDrawing || document.hidden) return;
  isDrawing = true;
  requestAnimationFrame(() => {
    isDrawing = false;
    previews.keepOnly((job) => store.running.has(job));
    frame.draw();
    if (jobPage.isOpen) {
      jobPage.draw();
    } else {
      queue.draw();
      gallery.draw();
      workers.draw();
    }
    fetchMissing();
  });
}

function onPreview(buffer) {
  if (previews.take(buffer)) draw();
}

function onState() {
  draw();
  if (socket.state === "live") jobPage.complete();
  // Who is connected may have changed meanwhile. And a browser does not tell a handshake refused for want of a key
  // from a service that is gone; HTTP does.
  askWorkers();
}

async function askWorkers() {
  try {
    store.putWorkers(await api.workers());
  } catch (problem) {
    if (problem.status === 401) login.show();
  }
}

/** Jobs that had an event here while their beginning lies before everything the page has: get them whole. */
function fetchMissing() {
  for (const id of store.missing) {
    if (asked.has(id)) continue;
    asked.add(id);
    api
      .job(id)
      .then((job) => store.put(job), (problem) => problem.status === 404 && store.missing.delete(id))
      .finally(() => asked.delete(id));
  }
}

function route() {
  if (login.isOpen) return;
  const id = /^#\/jobs\/([^/]+)$/.exec(location.hash)?.[1];
  if (id && byId("job").hidden) leftAt_px = scrollY;
  setHidden(byId("board"), Boolean(id));
  setHidden(byId("job"), !id);
  byId("skip").textContent = id ? "Skip to the job" : "Skip to the queue";
  if (id) {
    jobPage.open(decodeURIComponent(id));
    scrollTo(0, 0);
  } else {
    const was = jobPage.close();
    scrollTo(0, leftAt_px);
    if (was) gallery.focus(was);
  }
  draw();
}

/** The submit form with the parameters of an earlier job. */
function again(job) {
  leftAt_px = 0;
  location.hash = "#/";
  form.fill(job);
}

/** Moves the focus itself: a fragment in the address would be taken for a route. */
function skip(event) {
  event.preventDefault();
  byId(jobPage.isOpen ? "job-heading" : "queue-heading")?.focus();
}
