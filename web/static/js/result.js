// What a finished job has made, as a page shows it: a picture, a video, a sound or a text.

import * as api from "./api.js";
import { make, setText } from "./dom.js";
import { title } from "./format.js";

/** The first of the job's files that can be shown, if there is one. */
export const shownOf = (job) => job.artifacts.find(({ media_type }) => SHOWS[kindOf(media_type)]);

/** An element that shows a file with the room it needs, so that nothing moves when it arrives. */
export function elementOf(artifact, job, attributes = {}) {
  return SHOWS[kindOf(artifact.media_type)](artifact, title(job), attributes);
}

const SHOWS = {
  image: ({ url, width, height }, alt, attributes) =>
    make("img", { src: url, width, height, alt, decoding: "async", loading: "lazy", ...attributes }),
  // a browser fetches of a video what its first frame needs, and the rest when it is played
  video: ({ url, width, height }, label, attributes) =>
    make("video", { src: url, width, height, "aria-label": label, preload: "metadata", loop: true, ...attributes }),
  audio: ({ url }, label, attributes) =>
    make("audio", { src: url, "aria-label": label, preload: "metadata", ...attributes }),
  text: ({ url }) => {
    const node = make("p", { class: "written" });
    api.text(url).then((text) => setText(node, text));
    return node;
  },
};

const kindOf = (media_type) => media_type.split("/")[0];
