// Options and columns in, a uPlot that follows its place and its data, and keeps what the reader has zoomed into, out.

export class Plot {
  #place;
  #drawn = null;
  #zoomed = false;

  constructor(place) {
    this.#place = place;
    new ResizeObserver(() => this.#drawn?.setSize(this.#size())).observe(place);
  }

  get exists() {
    return this.#drawn !== null;
  }

  // Everything anew, also when the colours have changed.
  draw(options, columns) {
    this.#drawn?.destroy();
    this.#zoomed = false;
    const hooks = {
      setSelect: [({ select }) => { this.#zoomed = select.width > 0 || select.height > 0; }],
      setScale: [({ scales: { x } }, key) => { if (key === "x") this.#place.dataset.range = `${x.min} ${x.max}`; }],
    };
    const cursor = { points: { show: false }, drag: { x: true, y: true, uni: 30 } };
    this.#drawn = new uPlot({ legend: { show: false }, cursor, hooks, ...options, ...this.#size() }, columns, this.#place);
    this.#drawn.over.addEventListener("dblclick", () => { this.#zoomed = false; });
  }

  update(columns) {
    this.#drawn.setData(columns, !this.#zoomed);
    if (this.#zoomed) this.#drawn.redraw();
  }

  #size() {
    const { width, height } = this.#place.getBoundingClientRect();
    return { width: Math.floor(width), height: Math.floor(height) };
  }
}
