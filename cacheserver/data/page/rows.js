// Changing the page in place: what stays the same is not touched, so that focus and selection survive.
// Text from the node goes into text nodes only, never into markup.

export const byId = (id) => document.getElementById(id);

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function show(node, visible) {
  if (node.hidden === visible) node.hidden = !visible;
}

export function element(tag, className = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  return made;
}

// One child of `parent` per item, in order: `make()` gives a new one, `update(child, item)` fills it in.
export function sync(parent, items, keyOf, make, update) {
  const wanted = new Set(items.map(keyOf));
  const known = new Map();
  for (const child of Array.from(parent.children)) {
    if (wanted.has(child.rowKey)) known.set(child.rowKey, child);
    else child.remove();
  }
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let child = known.get(key);
    if (!child) {
      child = make();
      child.rowKey = key;
    }
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
    update(child, item);
  }
}

// A row of a table: the first cell is its heading; `columns` are the classes of the others.
export function tableRow(columns) {
  return () => {
    const row = element("tr");
    const heading = element("th");
    heading.scope = "row";
    row.append(heading, ...columns.map((className) => element("td", className)));
    return row;
  };
}

export function fillRow(row, texts) {
  texts.forEach((text, place) => setText(row.children[place], text));
}
