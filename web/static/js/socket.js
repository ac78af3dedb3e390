// The push socket: connects, resumes behind the store's position, and comes back after a lost connection.
// The protocol is docs/push.md.

const SUBPROTOCOL = "safelight.v1";
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 5000;
const MOST_EVENTS = 20_000; // folding more than these takes longer than a snapshot

/** Closes that another attempt cannot cure; 4429 (too many) and 4430 (slow) are cured by waiting. */
const isFinal = (code) => [4400, 4401, 4403, 4406].includes(code);

export class PushSocket {
  state = "connecting"; // connecting, live, reconnecting, refused
  reason = "";
  #socket = null;
  #failures = 0;
  #timer = 0;

  /** `onPreview(ArrayBuffer)` gets binary frames, `onState()` is called when `state` has changed. */
  constructor(store, { onPreview, onState }) {
    Object.assign(this, { store, onPreview, onState });
    addEventListener("online", () => this.#soon(0));
    document.addEventListener("visibilitychange", () => this.#visibility());
  }

  /** Connect unless that is done or under way. */
  connect() {
    if (this.#socket !== null) return;
    clearTimeout(this.#timer);
    const socket = new WebSocket(this.#address(), SUBPROTOCOL);
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => this.#message(data);
    socket.onclose = (close) => this.#closed(socket, close);
    this.#socket = socket;
  }

  #address() {
    const { store } = this;
    const query = new URLSearchParams({ previews: document.hidden ? "0" : "1", most: MOST_EVENTS });
    if (store.hasSnapshot) query.set("after", store.position);
    if (store.hasSnapshot) query.set("epoch", store.epoch);
    return `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/v1/events?${query}`;
  }

  #message(data) {
    if (typeof data !== "string") {
      this.onPreview(data);
      return;
    }
    const frame = JSON.parse(data);
    this.store.take(frame);
    for (const message of Array.isArray(frame) ? frame : [frame]) {
      if (message.op === "error") this.reason = message.message;
    }
    // A resumed connection is live at its hello; a new one once its snapshot is complete.
    if (this.state !== "live" && this.store.hasSnapshot) {
      this.#failures = 0;
      this.#is("live");
    }
  }

  #closed(socket, { code, reason }) {
    if (socket !== this.#socket) return;
    this.#socket = null;
    if (isFinal(code)) {
      this.reason = reason || `closed with ${code}`;
      this.#is("refused");
      return;
    }
    this.#is(this.store.hasSnapshot ? "reconnecting" : "connecting");
    const longest = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** this.#failures++);
    // Jitter: after a restart of the service its pages must not all come back in one instant.
    this.#soon(FIRST_WAIT_MS + Math.random() * (longest - FIRST_WAIT_MS / 2));
  }

  #soon(wait_ms) {
    if (this.#socket !== null || this.state === "refused") return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.connect(), Math.min(wait_ms, LONGEST_WAIT_MS));
  }

  #visibility() {
    if (this.#socket?.readyState === WebSocket.OPEN)
      this.#socket.send(JSON.stringify({ op: "previews", wanted: !document.hidden }));
    if (!document.hidden) this.#soon(0);
  }

  #is(state) {
    if (this.state === state) return;
    this.state = state;
    this.onState();
  }
}
