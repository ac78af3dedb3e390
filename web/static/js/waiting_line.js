// The jobs of one queue that are in line, in the order they will run: background last, priority (higher first),
// then first come, or where somebody has moved them. A sorted array and bisection, as projections/queue_order.py.

export class WaitingLine {
  jobs = [];

  add(job) {
    this.jobs.splice(this.#place(job), 0, job);
  }

  /** Put the newer object of a job where it belongs. */
  replace(old, job) {
    if (isBefore(old, job) || isBefore(job, old)) {
      this.remove(old);
      this.add(job);
    } else {
      this.jobs[this.#place(old)] = job;
    }
  }

  remove(job) {
    this.jobs.splice(this.#place(job), 1);
  }

  /** The jobs right before and after one that is in line; in a fair queue of its own submitter. */
  neighbours(job, isFair) {
    const index = this.#place(job);
    const isNear = ({ submitter }) => !isFair || submitter === job.submitter;
    const before = this.jobs.findLast((other, at) => at < index && isNear(other));
    return { before, after: this.jobs.find((other, at) => at > index && isNear(other)) };
  }

  /** Job id -> 1 for the one that is next out, counting those that can run; in a fair queue among its submitter's. */
  ranks(isFair, isBlocked) {
    const ranks = new Map();
    const counts = new Map();
    for (const job of this.jobs) {
      if (isBlocked(job)) continue;
      const among = isFair ? job.submitter : "";
      const rank = (counts.get(among) ?? 0) + 1;
      counts.set(among, rank);
      ranks.set(job.id, rank);
    }
    return ranks;
  }

  #place(job) {
    let low = 0;
    let high = this.jobs.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (isBefore(this.jobs[middle], job)) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function isBefore(a, b) {
  if (a.background !== b.background) return b.background;
  if (a.priority !== b.priority) return a.priority > b.priority;
  return place(a) < place(b);
}

/** A job that had ended when the service told of it has no order; the event that says so is on its way. */
const place = ({ order, id }) => order ?? `~${id}`;
