// Menus for the generated pages: show the items that carry the chosen classes. Without this script everything is shown.
document.querySelectorAll(".mm-filter").forEach((place) => {
  const items = [...document.querySelectorAll(".mm-item")];
  const groups = [...document.querySelectorAll(".mm-group")];
  const folds = [...document.querySelectorAll(".mm-details")];
  const opened = folds.filter((fold) => fold.open);
  const menus = JSON.parse(place.dataset.facets).map((facet) => {
    const label = document.createElement("label");
    const menu = document.createElement("select");
    label.append(facet.label + " ", menu);
    menu.append(new Option("all", ""));
    facet.options.forEach(([value, text]) => menu.append(new Option(text, value)));
    menu.dataset.name = facet.name;
    menu.addEventListener("change", choose);
    place.append(label);
    return menu;
  });
  const count = document.createElement("output");
  place.append(count);
  place.hidden = false;

  function choose() {
    const wanted = menus.filter((menu) => menu.value).map((menu) => `${menu.dataset.name}-${menu.value}`);
    const status = wanted.find((name) => name.startsWith("status-"));
    const fits = (item) => wanted.every((name) => item.classList.contains(name));
    items.forEach((item) => { item.hidden = !fits(item); });
    document.querySelectorAll(".mm-cell").forEach((cell) => {
      cell.classList.toggle("mm-dim", Boolean(status) && !cell.classList.contains(status));
    });
    groups.forEach((group) => { group.hidden = !group.querySelector(".mm-item:not([hidden])"); });
    folds.forEach((fold) => { fold.open = wanted.length ? true : opened.includes(fold); });
    const shown = items.filter((item) => !item.hidden).length;
    count.textContent = wanted.length ? `${shown} of ${items.length} shown` : "";
    history.replaceState(null, "", wanted.length ? "#show:" + wanted.join(",") : location.pathname);
  }

  // What a link leads to is shown, not only its title.
  function unfold() {
    const target = document.getElementById(location.hash.slice(1));
    if (target) target.querySelectorAll(".mm-details").forEach((fold) => { fold.open = true; });
  }
  addEventListener("hashchange", unfold);
  unfold();

  const asked = decodeURIComponent(location.hash);
  if (asked.startsWith("#show:")) {
    const names = asked.slice(6).split(",");
    menus.forEach((menu) => {
      const name = names.find((one) => one.startsWith(menu.dataset.name + "-"));
      if (name) menu.value = name.slice(menu.dataset.name.length + 1);
    });
    choose();
  }
});
