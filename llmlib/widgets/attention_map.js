// A head's attention as a picture: arcs and a matrix over one axis of keys; and, for the choice of a head, its small picture.

import { svg } from "./frame.js";
import { ranked, shades, strength, weightAt } from "./triangle.js";
import { visibleToken } from "./words.js";

const DIGIT_WIDTH = 7.3; // of the labels' 12 px monospace
const LABEL = 11; // characters of a token's label
const RISE = 100; // of the arcs
export const WIDE = 26; // tokens; a longer text's matrix takes the whole width

/** Arcs and matrix over one axis of keys; drawn once a text, then `update` with what is chosen. */
export function drawMap(tokens) {
  const T = tokens.length;
  const labels = tokens.map((token) => visibleToken(token, LABEL));
  const room = 12 + DIGIT_WIDTH * Math.max(3, ...labels.map((label) => [...label].length));
  const cell = Math.max(15, Math.min(30, Math.floor((T > WIDE ? 700 : 400) / T))); // pixels
  const [left, top, size] = [room, RISE + room, T * cell];
  const middle = (i) => left + (i + 0.5) * cell;
  const columns = labels.map((label, k) => svg("text", { class: "bw-map-label", transform: `translate(${middle(k) + 4} ${top - 5}) rotate(-90)` }, label));
  const rows = labels.map((label, q) => svg("text", { class: "bw-map-label", x: left - 6, y: middle(q) - left + top + 4, "text-anchor": "end" }, label));
  const cells = [];
  let hatch = "";
  for (let q = 0; q < T; q += 1) {
    for (let k = 0; k < T; k += 1) {
      const [x, y] = [left + k * cell, top + q * cell];
      if (k <= q) cells.push(svg("rect", { class: "bw-cell", x: x + 0.5, y: y + 0.5, width: cell - 1, height: cell - 1, rx: 2 }));
      else hatch += `M${x + 4} ${y + cell - 4}l${cell - 8} ${8 - cell}`;
    }
  }
  const arcs = svg("g");
  const band = svg("rect", { class: "bw-band", x: left - 1, height: cell + 2, rx: 3 });
  const cursor = svg("rect", { class: "bw-cursor", width: cell, height: cell, rx: 3 });
  const [width, height] = [left + size + 8, top + size + 4];
  const node = svg(
    "svg",
    { class: cell < 20 ? "bw-map is-dense" : "bw-map", viewBox: `0 0 ${width} ${height}`, style: `width:${width}px;min-width:${Math.round(0.7 * width)}px`, role: "img" },
    arcs,
    columns,
    rows,
    svg("path", { class: "bw-masked", d: hatch }),
    cells,
    band,
    cursor,
  );

  /** The cell under a pointer: {query, key}; null outside; `query` is null on the keys' labels and arcs. */
  function hit(event) {
    const box = node.getBoundingClientRect();
    const x = ((event.clientX - box.left) * width) / box.width;
    const y = ((event.clientY - box.top) * height) / box.height;
    const key = x < left ? null : Math.floor((x - left) / cell);
    const query = y < top ? null : Math.floor((y - top) / cell);
    return (key !== null && key >= T) || (query !== null && query >= T) || (key === null && query === null) ? null : { query, key };
  }

  function update(flat, query, pointed) {
    let i = 0;
    for (let q = 0; q < T; q += 1) {
      rows[q].classList.toggle("is-focus", q === query);
      columns[q].classList.toggle("is-idle", q > query);
      columns[q].classList.toggle("is-focus", q === query);
      columns[q].classList.toggle("is-pointed", q === pointed?.key);
      for (let k = 0; k <= q; k += 1, i += 1) {
        cells[i].classList.toggle("is-focus", q === query);
        cells[i].style.fillOpacity = strength(weightAt(flat, q, k)).toFixed(3);
      }
    }
    band.setAttribute("y", top + query * cell - 1);
    band.setAttribute("width", (query + 1) * cell + 2);
    const shown = pointed !== null && pointed.query !== null && pointed.key !== null;
    cursor.style.display = shown ? "" : "none";
    if (shown) {
      cursor.setAttribute("x", left + pointed.key * cell);
      cursor.setAttribute("y", top + pointed.query * cell);
    }
    const from = middle(query);
    const marks = ranked(flat, query).filter(({ weight }) => weight >= 0.005).reverse();
    arcs.replaceChildren(
      ...marks.map(({ key, weight }) => {
        const to = middle(key);
        const rise = 16 + (RISE - 26) * ((query - key) / Math.max(T - 1, 1));
        const d = key === query ? `M${from - 3} ${RISE}C${from - 12} ${RISE - 24} ${from + 12} ${RISE - 24} ${from + 3} ${RISE}` : `M${from} ${RISE}A${(from - to) / 2} ${rise} 0 0 0 ${to} ${RISE}`;
        const dim = pointed !== null && pointed.key !== null && pointed.key !== key;
        return svg("path", { class: dim ? "bw-arc is-dim" : "bw-arc", d, style: `stroke-width:${(0.6 + 8 * weight).toFixed(2)}px;opacity:${(0.25 + 0.7 * weight).toFixed(2)}` });
      }),
      svg("circle", { class: "bw-point", cx: from, cy: RISE, r: 4 }),
    );
  }
  /** A column's two edges, in pixels of the page from the map's own. */
  function span(k) {
    const zoom = node.getBoundingClientRect().width / width;
    return [(left + k * cell) * zoom, (left + (k + 1) * cell) * zoom];
  }
  return { node, hit, span, update };
}

/** A head as a small picture: its lower triangle. */
export function thumbnail(flat, T) {
  const paths = shades(flat).map(({ level, d }) => svg("path", { class: "bw-cell", d, style: `fill-opacity:${level}` }));
  return svg("svg", { viewBox: `0 0 ${T} ${T}`, "aria-hidden": "true", preserveAspectRatio: "none" }, svg("path", { class: "bw-causal", d: `M0 0${Array.from({ length: T }, () => "h1v1").join("")}H0z` }), paths);
}
