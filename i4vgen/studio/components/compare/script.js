// One clock for all panes. The clock follows the longest visible video, and the other videos follow the clock. A video
// with a small offset plays a little slower or faster. After a larger offset, and at the end of the loop, all videos
// stop, seek to the same time and start together. While one video is loading or seeking, the others wait. So no two
// videos are ever a whole frame apart. Hidden videos are paused.
//
// Gradio runs this script once with `element` (this component's root), `props` and `watch`. It patches the page under
// `element` when the value changes, so nodes are looked up when needed and events are handled at the root. Handlers
// only change the state below; each tick updates the page where it differs.

const EASE = 0.1; // frames: a video with this offset changes its speed
const STRAY = 0.4; // frames: an offset that stops all videos; two videos can be twice this apart

const wish = { a: "vanilla", b: "i4vgen" }; // the chosen panes, used if the value has them
const modes = {}; // the chosen mode, by the value's first mode
let speed = 1;
let wipe = 50; // position of the divider in percent
let looping = true;
let helping = false;
let playing = !window.matchMedia("(prefers-reduced-motion: reduce)").matches;
let clock = 0; // seconds from the start of the loop
let jump = true; // the clock was set: the videos seek to it before it follows them again
let cast = ""; // the names of the visible panes

const find = (selector) => element.querySelector(selector);
const panes = () => [...element.querySelectorAll(".pane")];
const first = () => find(".player").dataset.first;
const view = () => (panes().length > 1 ? (modes[first()] ?? first()) : "side"); // a single pane needs no comparison
const look = (mode) => (modes[first()] = mode);
const limit = (number, low, high) => Math.min(Math.max(number, low), high);

function film() {
  const { frames, fps } = find(".player").dataset;
  return { last: frames - 1, fps: Number(fps) };
}

function frameNumber() {
  const { last, fps } = film();
  return Math.min(last, Math.floor(clock * fps + 1e-6));
}

// Returns the names of A and B: the chosen panes, or else the first pane and the result or last pane.
function pair() {
  const names = panes().map((pane) => pane.dataset.name);
  const result = find(".result")?.dataset.name;
  const other = names.findLast((name) => name !== wish.a) ?? names.at(-1);
  const b = [wish.b, result].find((name) => names.includes(name)) ?? other;
  const a = names.includes(wish.a) && wish.a !== b ? wish.a : names.find((name) => name !== b);
  return { a, b };
}

// The clock

function tick() {
  if (!element.isConnected) return;
  requestAnimationFrame(tick);
  if (!find(".player")) return;
  const videos = arrange().filter((picture) => picture.matches("video") && !picture.error);
  if (!videos.every((video) => video.readyState >= 2 && !video.seeking)) {
    for (const video of videos) wait(video);
  } else if (playing && videos.length) {
    run(videos);
  } else {
    rest(videos);
  }
  show();
}

function wait(video) {
  video.pause();
  if (!video.readyState || video.seeking) return;
  const place = Math.min(clock + 0.001, video.duration);
  const astray = Math.abs(video.currentTime - place) > 0.5 / film().fps; // true for a pane that has just become visible
  // Phones load no frame before a video plays or seeks.
  if (astray || video.readyState === 1) video.currentTime = place;
}

function run(videos) {
  const { last, fps } = film();
  const lead = videos.reduce((one, other) => (other.duration > one.duration ? other : one));
  const ahead = (video) => (video.ended ? 0 : (video.currentTime - clock) * fps); // a shorter video waits at its end
  if (!jump) {
    clock = lead.currentTime;
    if (lead.ended) {
      playing = looping;
      goTo(looping ? 0 : last / fps);
    }
    jump ||= videos.some((video) => Math.abs(ahead(video)) > STRAY);
  }
  for (const video of videos) {
    if (jump) {
      video.pause(); // otherwise it would play on before the others have seeked
      video.currentTime = clock;
    } else {
      const pace = Math.abs(ahead(video)) < EASE ? speed : speed * (ahead(video) > 0 ? 0.9 : 1.1);
      if (video.playbackRate !== pace) video.playbackRate = pace;
      if (video.paused && !video.ended) start(video);
    }
  }
  jump = false;
}

function start(video) {
  video.play().catch((error) => {
    if (error.name === "NotAllowedError") playing = false; // the browser requires a click first
  });
}

function rest(videos) {
  const { fps } = film();
  const middle = (frameNumber() + 0.5) / fps; // at its middle, every browser shows this frame
  for (const video of videos) {
    const place = Math.min(middle, video.duration - 0.5 / fps);
    video.pause();
    if (Math.abs(video.currentTime - place) > 0.01) video.currentTime = place;
  }
}

function goTo(seconds) {
  clock = seconds;
  jump = true;
}

// The stage

// Arranges the panes and returns the visible pictures.
function arrange() {
  const { a, b } = pair();
  const all = panes();
  const grid = view() === "grid";
  const seen = grid ? all : all.filter((pane) => [a, b].includes(pane.dataset.name));
  find(".player").dataset.mode = view();
  const roles = grid || !a ? {} : { [a]: "a", [b]: "b" };
  for (const pane of all) {
    pane.hidden = !seen.includes(pane);
    pane.dataset.role = roles[pane.dataset.name] ?? "";
    if (pane.hidden) pane.querySelector("video")?.pause();
  }
  const names = seen.map((pane) => pane.dataset.name).join();
  if (names !== cast) jump = true; // new videos start at the current time
  cast = names;
  for (const select of element.querySelectorAll("[data-side]")) put(select, { a, b }[select.dataset.side] ?? "");
  return seen.map((pane) => pane.querySelector(".picture"));
}

function show() {
  const frame = frameNumber();
  const where = `${frame + 1} / ${film().last + 1}`;
  put(find(".scrub"), frame);
  put(find(".wipe"), Math.round(wipe));
  put(find(".speed"), speed);
  if (find(".where").textContent !== where) find(".where").textContent = where;
  find(".scrub").setAttribute("aria-valuetext", where);
  for (const track of element.querySelectorAll(".track")) {
    const cell = track.children[Math.min(frame, track.children.length - 1)];
    track.setAttribute("aria-valuenow", Number(cell.dataset.frame) + 1);
    track.setAttribute("aria-valuetext", cell.title);
    for (const other of track.children) other.classList.toggle("now", other === cell);
  }
  find(".player").dataset.state = playing ? "playing" : "paused";
  find(".play").setAttribute("aria-label", playing ? "Pause" : "Play");
  find(".loop").setAttribute("aria-pressed", looping);
  const help = find(".help");
  if (helping !== help.open) helping ? help.showModal() : help.close();
  for (const button of element.querySelectorAll(".modes button")) {
    button.setAttribute("aria-pressed", button.dataset.mode === view());
  }
  const sized = [...element.querySelectorAll(".picture")].find((one) => one.videoWidth || one.naturalWidth);
  const ratio = sized ? (sized.videoWidth || sized.naturalWidth) / (sized.videoHeight || sized.naturalHeight) : 1;
  find(".stage").style.setProperty("--ratio", ratio);
  find(".stage").style.setProperty("--wipe", `${wipe}%`);
}

function put(field, value) {
  if (field.value !== String(value)) field.value = value; // keeps an open list and a dragged thumb
}

// User input

function toggle() {
  if (!playing && !looping && frameNumber() === film().last) goTo(0);
  playing = !playing;
}

function showFrame(number) {
  const { last, fps } = film();
  playing = false;
  goTo((limit(number, 0, last) + 0.5) / fps);
}

function choose(side, name) {
  const now = pair();
  const other = side === "a" ? "b" : "a";
  Object.assign(wish, now, { [side]: name });
  if (now[other] === name) wish[other] = now[side]; // swaps the sides if the other side shows it
}

function changeSpeed(by) {
  const speeds = [...find(".speed").options].map((option) => Number(option.value));
  speed = speeds[limit(speeds.indexOf(speed) + by, 0, speeds.length - 1)];
}

function moveDivider(event) {
  const stage = find(".stage");
  if (!stage?.hasPointerCapture(event.pointerId)) return;
  const { left, width } = stage.getBoundingClientRect();
  wipe = limit((100 * (event.clientX - left)) / width, 0, 100);
}

const BUTTONS = {
  ".play": toggle,
  ".back": () => showFrame(frameNumber() - 1),
  ".forth": () => showFrame(frameNumber() + 1),
  ".loop": () => (looping = !looping),
  ".swap": () => choose("a", pair().b),
  ".ask": () => (helping = !helping),
  ".modes button": ({ target }) => look(target.dataset.mode),
};

const KEYS = {
  " ": toggle,
  k: toggle,
  ArrowLeft: BUTTONS[".back"],
  ArrowRight: BUTTONS[".forth"],
  ",": BUTTONS[".back"],
  ".": BUTTONS[".forth"],
  Home: () => showFrame(0),
  End: () => showFrame(film().last),
  l: BUTTONS[".loop"],
  s: BUTTONS[".swap"],
  "[": () => changeSpeed(-1),
  "]": () => changeSpeed(1),
  "?": BUTTONS[".ask"],
  ...Object.fromEntries(["side", "wipe", "grid"].map((name, i) => [i + 1, () => look(name)])),
};

// Keys that fields and buttons handle themselves.
const OWN_KEYS = {
  BUTTON: [" "],
  INPUT: ["ArrowLeft", "ArrowRight", "Home", "End"],
};

element.addEventListener("keydown", (event) => {
  const { key, target } = event;
  if (event.metaKey || ((event.ctrlKey || event.altKey) && !event.getModifierState("AltGraph"))) return;
  if (target.matches("select") || OWN_KEYS[target.tagName]?.includes(key)) return;
  const act = KEYS[key.length === 1 ? key.toLowerCase() : key];
  if (!act || (helping && key !== "?")) return;
  event.preventDefault();
  act();
});

element.addEventListener("click", (event) => {
  const { target } = event;
  const picture = target.closest(".picture");
  const cell = target.closest(".track i");
  const button = Object.keys(BUTTONS).find((selector) => target.closest(selector));
  if (button) BUTTONS[button](event);
  else if (cell) showFrame(Number(cell.dataset.frame));
  else if (picture && view() !== "wipe") toggle();
});

element.addEventListener("input", ({ target }) => {
  if (target.matches(".scrub")) showFrame(Number(target.value));
  if (target.matches(".wipe")) wipe = Number(target.value);
  if (target.matches(".speed")) speed = Number(target.value);
  if (target.matches("[data-side]")) choose(target.dataset.side, target.value);
});

// A drag or a tap moves the divider. A vertical swipe scrolls the page instead (touch-action): the browser then
// cancels the pointer before it is lifted.
element.addEventListener("pointerdown", (event) => {
  if (event.target.matches(".picture") && view() === "wipe") find(".stage").setPointerCapture(event.pointerId);
});

element.addEventListener("pointermove", moveDivider);
element.addEventListener("pointerup", moveDivider);
element.addEventListener("close", () => (helping = false), true);

watch("value", () => goTo(0));
requestAnimationFrame(tick);
