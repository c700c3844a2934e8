for (const figure of document.querySelectorAll(".compare")) {
  figure.classList.add("live");
  const slider = figure.querySelector("input");
  const move = () => {
    figure.style.setProperty("--split", slider.value + "%");
    slider.setAttribute("aria-valuetext", `${slider.value} % ${slider.dataset.before}, the rest ${slider.dataset.after}`);
  };
  slider.addEventListener("input", move);
  move();
}
for (const button of document.querySelectorAll(".sort")) {
  button.addEventListener("click", () => {
    const head = button.closest("th"), table = button.closest("table"), body = table.tBodies[0];
    const way = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    const key = (row) => row.cells[head.cellIndex].dataset.key ?? row.cells[head.cellIndex].textContent.trim();
    const rows = Array.from(body.rows, (row) => [key(row), row]);
    const compare = ([a], [b]) => {
      if (a === "" || b === "") return (a === "") - (b === ""); // what is missing stays at the end
      const number = Number(a) - Number(b);
      return way * (Number.isNaN(number) ? a.localeCompare(b, undefined, { numeric: true }) : number);
    };
    for (const [, row] of rows.sort(compare)) body.append(row);
    for (const other of table.tHead.rows[0].cells) if (other.ariaSort || other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
  });
}
for (const label of document.querySelectorAll(".filter")) {
  label.classList.add("live");
  const input = label.querySelector("input"), body = document.getElementById(input.dataset.table).tBodies[0];
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase();
    for (const row of body.rows) row.hidden = !row.textContent.toLowerCase().includes(words);
  });
}
for (const told of document.querySelectorAll("[data-written]")) {
  const tell = () => {
    const seconds = (Date.now() - Date.parse(told.dataset.written)) / 1000;
    told.querySelector(".age").textContent = seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
    told.hidden = seconds < Number(told.dataset.patience);
  };
  tell();
  setInterval(tell, 5000);
}
