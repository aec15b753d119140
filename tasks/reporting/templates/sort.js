document.querySelectorAll("table.sortable thead [role=button]").forEach(function (button) {
  button.addEventListener("keydown", function (event) {
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); button.click(); }
  });
  button.addEventListener("click", function () {
    var cell = button.parentElement, column = cell.cellIndex, table = cell.closest("table"), body = table.tBodies[0];
    var descending = cell.getAttribute("aria-sort") === "ascending";
    var key = function (row) { return row.cells[column].dataset.sort || row.cells[column].textContent.trim(); };
    var rows = Array.prototype.slice.call(body.rows);
    rows.sort(function (a, b) {
      var x = key(a), y = key(b), p = parseFloat(x), q = parseFloat(y);
      var order = isNaN(p) || isNaN(q) ? (isNaN(p) === isNaN(q) ? x.localeCompare(y) : isNaN(p) ? 1 : -1) : p - q;
      return descending ? -order : order;
    });
    table.querySelectorAll("th").forEach(function (other) { other.removeAttribute("aria-sort"); });
    cell.setAttribute("aria-sort", descending ? "descending" : "ascending");
    rows.forEach(function (row) { body.appendChild(row); });
  });
});
