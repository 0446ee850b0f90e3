// Draws each chart in the place of its picture, at the width that there is. The picture stays for print.
const PANEL = 250; // pixels: a panel with its axis
const AXIS = 60;
const GAP = 22;
const KEY = 240; // a name in the key
const SIDE = 130; // names of tasks beside bars

function fit(spec, width) {
  if (spec.facet) {
    const columns = Math.max(1, Math.min(spec.columns, Math.floor(width / (3 * PANEL / spec.columns))));
    spec.columns = columns;
    spec.spec.width = Math.max(120, Math.floor((width - AXIS) / columns) - GAP);
  } else {
    for (const part of spec.vconcat) part.width = Math.max(160, width - SIDE);
  }
  spec.config.legend.columns = Math.max(1, Math.floor(width / KEY));
  spec.config.legend.labelLimit = Math.min(KEY, width - AXIS) - 20;
  return spec;
}

function note(place, text) {
  if (place.nextElementSibling?.className === "note") return;
  const made = document.createElement("p");
  made.className = "note";
  made.textContent = text;
  place.after(made);
}

async function draw(place) {
  const source = place.dataset.spec ?? (place.dataset.spec = place.querySelector("script").textContent);
  const figure = place.closest("figure");
  place.hidden = false;
  const width = figure.clientWidth;
  place.dataset.width = width;
  const spec = JSON.parse(source);
  try {
    // ast: expressions are interpreted, not compiled, so that the page allows no eval
    await window.vegaEmbed(place, fit(spec, width), { ast: true, renderer: "svg", actions: false });
    figure.classList.add("drawn");
    note(place, spec.usermeta.note);
  } catch (error) {
    place.hidden = true; // the picture is there
    figure.classList.remove("drawn");
    console.error(error);
  }
}

const places = [...document.querySelectorAll(".chart")];
const seen = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      draw(target.querySelector(".chart"));
    }
  },
  { rootMargin: "600px" },
);
for (const place of places) seen.observe(place.closest("figure"));

let waiting;
addEventListener("resize", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    for (const place of places) {
      if (place.dataset.spec && Number(place.dataset.width) !== place.closest("figure").clientWidth) draw(place);
    }
  }, 200);
});
