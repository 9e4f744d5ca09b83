// Panning and zooming a chart with mouse, touch, wheel and keys. Knows no images.
import { calm } from "./dom.js";

const GLIDE_MS = 420;
const CLICK_PIXELS = 6; // a press that travels further is a drag
const STEP = 90; // pixels an arrow key moves

export class PanZoom {
  /** Calls `moved()` when the view changed, `pointed(at)` with a position or null, `pressed(at)` for a click or a tap. */
  constructor(canvas, chart, { moved, pointed, pressed }) {
    Object.assign(this, { canvas, chart, moved, pointed, pressed, travelled: 0 });
    this.pointers = new Map(); // id -> [left, top]
    for (const [event, act] of Object.entries({
      pointerdown: this.down, pointermove: this.drag, pointerup: this.up, pointercancel: this.up, keydown: this.key,
      pointerleave: () => this.pointed(null), blur: () => this.pointed(null),
    })) canvas.addEventListener(event, act.bind(this));
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
  }

  closer(factor) {
    return { ...this.chart.view, scale: this.chart.held(this.chart.view.scale * factor) };
  }

  /** Animate to a view, along a straight line on the screen. */
  glide(to) {
    cancelAnimationFrame(this.gliding);
    const from = { ...this.chart.view };
    const began = performance.now();
    const step = (now) => {
      const part = calm() ? 1 : Math.min(1, Math.max(0, now - began) / GLIDE_MS);
      const eased = 1 - (1 - part) ** 3;
      const scale = from.scale * (to.scale / from.scale) ** eased;
      // So the target does not swing out while the scale changes.
      const way = Math.abs(to.scale - from.scale) < 1e-9 ? eased : (1 / from.scale - 1 / scale) / (1 / from.scale - 1 / to.scale);
      this.chart.view = { scale, x: from.x + (to.x - from.x) * way, y: from.y + (to.y - from.y) * way };
      this.moved();
      if (part < 1) this.gliding = requestAnimationFrame(step);
    };
    this.gliding = requestAnimationFrame(step);
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  down(event) {
    if (event.button > 0) return;
    cancelAnimationFrame(this.gliding);
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this.place(event));
    this.travelled = this.pointers.size > 1 ? Infinity : 0;
  }

  drag(event) {
    const to = this.place(event);
    const from = this.pointers.get(event.pointerId);
    if (!from) return event.pointerType === "touch" ? null : this.pointed(to);
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    const moved = [to[0] - from[0], to[1] - from[1]];
    if (other) {
      const apart = (at) => Math.max(Math.hypot(at[0] - other[0], at[1] - other[1]), 8);
      this.chart.shift(moved[0] / 2, moved[1] / 2);
      this.chart.zoomAt((to[0] + other[0]) / 2, (to[1] + other[1]) / 2, apart(to) / apart(from));
    } else {
      this.chart.shift(...moved);
    }
    this.travelled += Math.hypot(...moved);
    this.pointers.set(event.pointerId, to);
    this.pointed(null);
    this.moved();
  }

  up(event) {
    const was = this.pointers.delete(event.pointerId);
    if (!was || this.pointers.size || this.travelled > CLICK_PIXELS || event.type === "pointercancel") return;
    this.pressed(this.place(event));
  }

  wheel(event) {
    event.preventDefault();
    cancelAnimationFrame(this.gliding);
    const pixels = event.deltaY * (event.deltaMode === 1 ? 16 : 1);
    const speed = event.ctrlKey ? 0.01 : 0.0016; // a pinch on a trackpad arrives as small wheel steps with Ctrl
    this.chart.zoomAt(...this.place(event), Math.exp(-pixels * speed));
    this.moved();
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { chart } = this;
    const middle = [chart.width / 2, chart.height / 2];
    const step = { ArrowLeft: [STEP, 0], ArrowRight: [-STEP, 0], ArrowUp: [0, STEP], ArrowDown: [0, -STEP] }[event.key];
    if (step) chart.shift(...step);
    else if (event.key === "+" || event.key === "=") chart.view = this.closer(1.4);
    else if (event.key === "-") chart.view = this.closer(1 / 1.4);
    else if (event.key === "0") chart.view = chart.everything();
    else if (event.key !== "Enter") return;
    event.preventDefault(); // also of Enter: it would press the button that gets the focus next
    if (event.key === "Enter") return this.pressed(middle, true);
    this.moved();
    this.pointed(middle, true); // what Enter would open
  }
}
