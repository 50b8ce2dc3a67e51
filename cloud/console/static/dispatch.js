// The page Dispatch: when the stream says that something is another than before, what shows it is asked for again.

const AGAIN_MS = 500; // changes that come together are fetched together

let due = null;
let busy = false;

/** The page as the server renders it for whoever is logged in: parts marked data-live take the place of ours. */
async function refresh() {
  due = null;
  busy = true;
  try {
    const answer = await fetch("/dispatch", { headers: { Accept: "text/html" } });
    if (answer.redirected) return location.assign("/log-in");
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of document.querySelectorAll("[data-live]")) {
      const now = fresh.getElementById(part.id);
      if (now === null || now.innerHTML === part.innerHTML) continue;
      const held = part.contains(document.activeElement) ? document.activeElement : null;
      part.replaceWith(document.adoptNode(now));
      if (held !== null) focusAgain(now, held);
    }
  } catch {
    // the stream tells when the coordinator is back
  } finally {
    busy = false;
  }
}

/** Whoever was about to press a button by the keyboard is still there. */
function focusAgain(part, held) {
  const label = held.textContent;
  [...part.querySelectorAll(held.tagName)].find((each) => each.textContent === label)?.focus();
}

function changed() {
  if (due !== null) return;
  due = setTimeout(() => (busy ? again() : refresh()), AGAIN_MS);
}

function again() {
  due = null;
  changed();
}

const stream = new EventSource("/events");
for (const kind of ["picture", "dispatch"]) stream.addEventListener(kind, changed);
stream.addEventListener("open", () => (document.getElementById("stream-lost").hidden = true));
stream.addEventListener("end", ({ data }) => {
  if (JSON.parse(data).reason !== "logged-out") return; // the server stops: EventSource tries again by itself
  stream.close();
  location.assign("/log-in");
});
stream.addEventListener("error", () => {
  document.getElementById("stream-lost").hidden = false;
  // A refusal (the session is over, or a proxy answered) is final for EventSource: the log-in page decides.
  if (stream.readyState === EventSource.CLOSED) location.assign("/log-in");
});
document.addEventListener("submit", () => stream.close()); // else its end would race with the form's answer
