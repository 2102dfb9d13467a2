"use strict";
const tip = document.createElement("div");
tip.id = "tip";
tip.setAttribute("role", "status");
tip.hidden = true;
document.body.append(tip);

const centre = (mark) => {
  const box = mark.getBoundingClientRect();
  return {x: box.x + box.width / 2, y: box.y + box.height / 2};
};

/** Show the text of a mark beside it; none hides the text. */
let shown = null, place = null;
const show = (mark) => {
  shown?.classList.remove("on");
  shown = mark;
  place = mark && centre(mark);
  tip.hidden = !mark;
  if (!mark) return;
  mark.classList.add("on");
  tip.textContent = mark.dataset.text;
  const at = mark.getBoundingClientRect(), own = tip.getBoundingClientRect();
  const left = at.right + 10 + own.width < innerWidth ? at.right + 10 : at.left - 10 - own.width;
  tip.style.left = `${Math.max(6, Math.min(left, innerWidth - own.width - 6))}px`;
  tip.style.top = `${Math.max(6, Math.min(at.top - own.height / 2, innerHeight - own.height - 6))}px`;
};

for (const chart of document.querySelectorAll("svg.chart")) {
  const marks = [...chart.querySelectorAll(".mark:has(> title)")];
  for (const mark of marks) {
    const title = mark.querySelector("title");
    mark.dataset.text = title.textContent;
    title.remove();
  }
  const places = () => marks.map((mark) => ({mark, ...centre(mark)}));
  chart.addEventListener("pointermove", (event) => {
    let best = null, least = 30;
    for (const {mark, x, y} of places()) {
      const far = Math.hypot(x - event.clientX, y - event.clientY);
      if (far < least) [best, least] = [mark, far];
    }
    if (best !== shown) show(best);
  });
  chart.addEventListener("pointerleave", () => show(null));
  chart.addEventListener("blur", () => show(null));
  chart.addEventListener("keydown", (event) => {
    const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
    if (event.key === "Escape") show(null);
    if (!step || !marks.length) return;
    event.preventDefault();
    const ordered = places().sort((a, b) => a.x - b.x || a.y - b.y).map((place) => place.mark);
    const now = ordered.indexOf(shown);
    show(ordered[now < 0 ? (step > 0 ? 0 : ordered.length - 1) : (now + step + ordered.length) % ordered.length]);
  });
}
/** A scroll that moves the mark hides its text. The event of an earlier scroll, which comes a frame late, does not. */
addEventListener("scroll", () => {
  if (!shown) return;
  const {x, y} = centre(shown);
  if (Math.hypot(x - place.x, y - place.y) > 1) show(null);
}, {passive: true});

for (const button of document.querySelectorAll("button.copy")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "Selected: press Ctrl+C";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2500);
  });
}
for (const part of document.querySelectorAll("details")) {
  addEventListener("beforeprint", () => { part.open = true; });
}
