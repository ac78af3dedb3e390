// The waiting jobs of one queue in the order they will run: priority (higher first), then first come.
// A sorted array and bisection, as projections/queue_order.py.

export class WaitingLine {
  jobs = [];

  add(job) {
    this.jobs.splice(this.#place(job), 0, job);
  }

  /** Put the newer object of a job where the older one stands. */
  replace(old, job) {
    this.jobs[this.#place(old)] = job;
  }

  remove(job) {
    this.jobs.splice(this.#place(job), 1);
  }

  /** 1 for the job that is next out. */
  rank(job) {
    return this.#place(job) + 1;
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

/** `order` decides between submissions of one instant; it is the store's, see store.js. */
function isBefore(a, b) {
  if (a.priority !== b.priority) return a.priority > b.priority;
  if (a.created_at !== b.created_at) return a.created_at < b.created_at;
  return a.order < b.order;
}
