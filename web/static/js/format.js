// Numbers, instants and names as people read them.

/** `38 ms`, `4.2 s`, `1 min 05 s`, `2 h 03 min`. */
export function duration(seconds) {
  const s = Math.max(0, seconds);
  if (s < 0.0995) return `${Math.round(s * 1000)} ms`;
  if (s < 9.95) return `${s.toFixed(1)} s`;
  if (s < 59.5) return `${Math.round(s)} s`;
  const whole = Math.round(s);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${pad(whole % 60)} s`;
  return `${Math.floor(whole / 3600)} h ${pad(Math.floor(whole / 60) % 60)} min`;
}

/** Like `duration`, in whole seconds: for a number that ticks. */
export function ticking(seconds) {
  const s = Math.floor(Math.max(0, seconds));
  return s < 60 ? `${s} s` : duration(s);
}

export function bytes(count) {
  if (count < 1000) return `${count} bytes`;
  const [value, unit] = count < 1e6 ? [count / 1e3, "kB"] : count < 1e9 ? [count / 1e6, "MB"] : [count / 1e9, "GB"];
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${unit}`;
}

export function memory(count) {
  return count ? `${Math.round(count / 2 ** 30)} GiB` : "";
}

/** Seconds between two RFC 3339 instants, to the microsecond they carry (Date.parse stops at milliseconds). */
export function secondsBetween(from, to) {
  return (Date.parse(to) - Date.parse(from)) / 1000 + (micros(to) - micros(from)) / 1e6;
}

/** RFC 3339 with microseconds, as the API writes instants. */
export function instant(at_us) {
  const seconds = Math.floor(at_us / 1e6);
  const micros = String(at_us - seconds * 1e6).padStart(6, "0");
  return `${new Date(seconds * 1000).toISOString().slice(0, 19)}.${micros}Z`;
}

/** `14:03` today, else `3 May, 14:03`, in the reader's own time zone. */
export function clock(at) {
  const date = new Date(at);
  const time = `${pad(date.getHours())}:${pad(date.getMinutes())}`;
  if (date.toDateString() === new Date().toDateString()) return time;
  return `${date.getDate()} ${date.toLocaleString("en", { month: "short" })}, ${time}`;
}

export const words = (name) => name.replaceAll("_", " ").replaceAll("-", " ");

export function sentence(name) {
  const text = words(name);
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** What to call a job: its prompt, else its task. */
export function title(job) {
  return job.params.prompt || words(job.task);
}

/** A job's numbers in one line: `512 × 512 px, 20 steps, guidance 4`. */
export function settings({ width, height, steps, seed, ...others }) {
  const size = width && height ? [`${width} × ${height} px`] : [];
  const numbers = Object.entries({ ...others, seed }).filter(([, value]) => typeof value === "number");
  const named = numbers.map(([name, value]) => `${words(name)} ${value}`);
  return [...size, ...(steps ? [plural(steps, "step")] : []), ...named].join(", ");
}

export function plural(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}

const pad = (number) => String(number).padStart(2, "0");

function micros(at) {
  return Number((/\.\d{3}(\d{3})/.exec(at) ?? ["", "0"])[1]);
}
