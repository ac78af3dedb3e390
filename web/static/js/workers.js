// Who makes the pictures: each worker with its device, its models and what it has in hand.

import * as api from "./api.js";
import { actionButton } from "./action.js";
import { byId, KeyedChildren, make, setAttribute, setHidden, setText } from "./dom.js";
import { clock, memory, plural, words } from "./format.js";

export class Workers {
  #list = new KeyedChildren(byId("workers"), ({ name }) => name, makeWorker);

  constructor(store) {
    this.store = store;
  }

  draw() {
    const hands = new Map(); // worker -> how many attempts it runs
    for (const job of this.store.running.values()) {
      const name = job.attempts.at(-1)?.worker;
      hands.set(name, (hands.get(name) ?? 0) + 1);
    }
    const workers = [...this.store.workers.values()].sort(
      (a, b) => b.is_connected - a.is_connected || (a.name < b.name ? -1 : 1),
    );
    this.#list.sync(workers.map((worker) => ({ ...worker, hands: hands.get(worker.name) ?? 0 })));
    setHidden(byId("workers-empty"), workers.length > 0 || !this.store.hasSnapshot);
  }
}

function makeWorker({ name }) {
  const state = make("span", { class: "state" });
  const device = make("p", { class: "device" });
  const why = make("p", { class: "why" });
  const release = actionButton("Release", () => api.releaseWorker(name), { class: "quiet" });
  setAttribute(release, "aria-label", `Release ${name}`);
  const node = make("li", {}, make("p", {}, make("span", { class: "name" }, name), state), device, why, release);
  return {
    node,
    update(worker) {
      setAttribute(node, "data-connected", worker.is_connected);
      setAttribute(node, "data-quarantined", worker.quarantine !== null);
      setText(state, stateOf(worker));
      setText(why, worker.quarantine ? `It gets no jobs: ${worker.quarantine}.` : "");
      for (const part of [why, release]) setHidden(part, worker.quarantine === null);
      const { kind, name: device_name, memory_bytes } = worker.device;
      const models = [...new Set(Object.values(worker.models).flat())].sort().join(", ");
      setText(device, [device_name || kind, memory(memory_bytes), models].filter(Boolean).join(" · "));
    },
  };
}

function stateOf({ is_connected, hands, lost, lost_at, quarantine }) {
  if (!is_connected) return lost ? `gone since ${clock(lost_at)}: ${words(lost)}` : "not connected";
  if (quarantine) return "quarantined";
  return hands ? `runs ${plural(hands, "job")}` : "ready";
}
