// Browser storage, as JSON. Local storage holds runs and queued prompts, which all tabs share. Session storage holds
// a tab's token, form and scroll position. If local storage is blocked or full, the page keeps its changes, and writes
// them with a later one.

const RUNS = "i4vgen-runs";
const QUEUE = "i4vgen-queue";
const TAB = "i4vgen-tab";
const FORM = "i4vgen-form";
const PLACE = "i4vgen-place";
const HOLD_PLACE = 5_000; // ms, while the page grows back to its height

const unsaved = { [RUNS]: [], [QUEUE]: [] }; // changes, each a function of the list

const read = (key) => {
  let list;
  try {
    list = JSON.parse(localStorage.getItem(key));
  } catch {}
  return unsaved[key].reduce((known, change) => change(known), Array.isArray(list) ? list : []);
};

const update = (key, change) => {
  const list = change(read(key));
  try {
    localStorage.setItem(key, JSON.stringify(list));
    unsaved[key] = [];
  } catch {
    unsaved[key].push(change);
  }
  return list;
};

const keep = (key, value) => {
  try {
    sessionStorage.setItem(key, JSON.stringify(value));
  } catch {}
};

// The functions that read or change a list return it as the event's only output.

studio.recallRuns = () => [read(RUNS)];

// added: a run, or a list of runs, newest first.
studio.addRuns = (most, added) => {
  const newest = [added ?? []].flat();
  if (!newest.length) return [read(RUNS)];
  const isOther = (each) => !newest.some((one) => one.run === each?.run);
  return [update(RUNS, (known) => [...newest, ...known.filter(isOther)].slice(0, most))];
};

studio.forgetRuns = () => [update(RUNS, () => [])];

studio.recallQueue = () => [read(QUEUE)];

// changes: the prompts to store (added), and the names of those to delete (over).
studio.changeQueue = (changes) => {
  const { added = [], over = [] } = changes ?? {};
  if (!added.length && !over.length) return [read(QUEUE)];
  return [update(QUEUE, (known) => [...known.filter((each) => !over.includes(each?.run)), ...added])];
};

// Opens the queue if the browser has queued prompts.
studio.openQueue = () => {
  if (read(QUEUE).length) document.getElementById("come-back").click();
};

// Updates the page when another tab changes the storage.
studio.watchStorage = () => window.addEventListener("storage", (event) => {
  const button = { [RUNS]: "recall", [QUEUE]: "look" }[event.key];
  document.getElementById(button)?.click();
});

// Locks the tab's token until the page closes, and resolves to whether that was possible. A duplicated tab has the
// same token and must make a new one.
const claim = (token) => new Promise((resolve) => {
  if (!navigator.locks) return resolve(true);
  const hold = new Promise(() => {});
  const ask = (tries) => navigator.locks.request(token, { ifAvailable: true }, (lock) => {
    if (lock || !tries) return resolve(Boolean(lock)), lock && hold;
    setTimeout(ask, 100, tries - 1);
  });
  ask(20); // the previous page may still be closing
});

// Returns the runs, and this tab's token and form. A reloaded tab keeps both.
studio.attach = async () => {
  const runs = read(RUNS);
  try {
    const [how] = performance.getEntriesByType("navigation");
    const again = ["reload", "back_forward"].includes(how?.type);
    let token = sessionStorage.getItem(TAB);
    if (!token || !again || !(await claim(token))) {
      const random = [...crypto.getRandomValues(new Uint8Array(16))];
      token = random.map((n) => n.toString(16).padStart(2, "0")).join("");
      sessionStorage.setItem(TAB, token);
      sessionStorage.removeItem(FORM);
      sessionStorage.removeItem(PLACE);
      await claim(token);
    }
    return [runs, { token, form: JSON.parse(sessionStorage.getItem(FORM)) }];
  } catch {
    return [runs, null];
  }
};

// Scrolls a reloaded page to its last position and holds it there while the page grows, until the user interacts.
studio.restorePlace = () => {
  addEventListener("pagehide", () => keep(PLACE, scrollY));
  let place = 0;
  try {
    place = JSON.parse(sessionStorage.getItem(PLACE));
  } catch {}
  if (!place) return;
  const started = Date.now();
  const moved = new AbortController();
  for (const event of ["wheel", "touchstart", "pointerdown", "keydown"]) {
    addEventListener(event, () => moved.abort(), { signal: moved.signal, passive: true });
  }
  const timer = setInterval(() => {
    if (!moved.signal.aborted && Math.abs(scrollY - place) > 1) scrollTo({ top: place, behavior: "instant" });
    if (moved.signal.aborted || Date.now() - started > HOLD_PLACE) {
      moved.abort();
      clearInterval(timer);
    }
  }, 50);
};

// Stores the form for a reload of the tab.
studio.keepForm = (names, ...values) =>
  keep(FORM, Object.fromEntries(names.map((name, i) => [name, values[i]])));
