// Click a column to sort by it, again to turn the order round; open what is folded before printing.
for (const button of document.querySelectorAll("table.sortable th button")) {
  button.addEventListener("click", () => {
    const head = button.parentElement, table = head.closest("table"), body = table.tBodies[0];
    const column = [...head.parentElement.children].indexOf(head);
    const down = head.getAttribute("aria-sort") !== "descending";
    for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => row.cells[column].dataset.v ?? row.cells[column].textContent;
    const numeric = head.classList.contains("n"), sign = down ? -1 : 1;
    const value = (row) => (key(row) === "" || key(row) === "–" ? -Infinity : Number(key(row)));
    const rows = [...body.rows].sort((a, b) =>
      sign * (numeric ? value(a) - value(b) || 0 : key(a).localeCompare(key(b))));
    body.append(...rows);
  });
}
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => { part.open = true; }));
