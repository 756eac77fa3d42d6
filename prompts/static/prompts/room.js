// Keeps the bench as high as the window has room for it, between where it stands and the buttons that save.

const GAP = 16;

export function keepInView(bench) {
  const buttons = document.querySelector("#submit-row");
  const fit = () => {
    const floor = Math.min(window.innerHeight, buttons?.getBoundingClientRect().top || window.innerHeight);
    const room = floor - Math.max(bench.getBoundingClientRect().top, GAP) - GAP;
    bench.style.setProperty("--room", `${Math.round(room)}px`);
  };
  for (const event of ["scroll", "resize"]) window.addEventListener(event, () => requestAnimationFrame(fit), { passive: true });
  new ResizeObserver(fit).observe(document.body);
  fit();
}
