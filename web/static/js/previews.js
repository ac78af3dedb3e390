// Passing pictures of running jobs: binary frames in, blob URLs out, one per job and revoked when replaced.

const MEDIA_TYPES = { 1: "image/jpeg", 2: "image/png", 3: "image/webp" };

export class Previews {
  #urls = new Map(); // job id -> {url, step}

  /** Take a binary frame: u8 version, u8 kind, u16 header length, JSON header, picture. False when not understood. */
  take(buffer) {
    const view = new DataView(buffer);
    const type = MEDIA_TYPES[view.getUint8(1)];
    if (view.getUint8(0) !== 1 || !type) return false;
    const start = 4 + view.getUint16(2);
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, start - 4)));
    this.forget(header.job);
    const url = URL.createObjectURL(new Blob([new Uint8Array(buffer, start)], { type }));
    this.#urls.set(header.job, { url, step: header.step });
    return true;
  }

  /** The blob URL of a job's newest preview, or null. */
  url(job) {
    return this.#urls.get(job)?.url ?? null;
  }

  forget(job) {
    const known = this.#urls.get(job);
    if (known) URL.revokeObjectURL(known.url);
    this.#urls.delete(job);
  }

  /** Forget every preview of a job that `isRunning` denies. */
  keepOnly(isRunning) {
    for (const job of [...this.#urls.keys()]) if (!isRunning(job)) this.forget(job);
  }
}
