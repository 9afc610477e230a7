// A training curve.
import { figure, svg } from "./dom.js";

const [WIDTH, HEIGHT, LEFT, FOOT] = [420, 180, 44, 20];

/** `points`: [{ step, loss }], in order. */
export function drawCurve(points) {
  const losses = points.map((point) => point.loss);
  const [lo, hi] = [Math.min(...losses), Math.max(...losses)];
  const [from, to] = [points[0].step, points.at(-1).step];
  const x = (step) => LEFT + ((step - from) / (to - from || 1)) * (WIDTH - LEFT);
  const y = (loss) => 6 + ((hi - loss) / (hi - lo || 1)) * (HEIGHT - FOOT - 6);
  const path = points.map((point, i) => `${i ? "L" : "M"}${x(point.step).toFixed(1)} ${y(point.loss).toFixed(1)}`).join("");
  return svg("svg", { class: "curve", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `Loss from ${figure(losses[0])} to ${figure(losses.at(-1))} in ${to} steps` },
    svg("line", { x1: LEFT, x2: WIDTH, y1: HEIGHT - FOOT, y2: HEIGHT - FOOT }),
    svg("text", { x: 0, y: 14 }, figure(hi)), svg("text", { x: 0, y: HEIGHT - FOOT }, figure(lo)),
    svg("text", { x: LEFT, y: HEIGHT - 5 }, String(from)), svg("text", { x: WIDTH, y: HEIGHT - 5, "text-anchor": "end" }, `${to} steps`),
    svg("path", { d: path }));
}
