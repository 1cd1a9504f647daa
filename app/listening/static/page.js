// Small pieces that pages are made of.

export function make(tag, options = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && name !== "list") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function choices(name, legend, labels, chosen, onchoose) {
  const rows = labels.map(([value, label, hint]) =>
    make(
      "label",
      { className: "choice" },
      make("input", {
        type: "radio", name, value: String(value), checked: value === chosen,
        onchange: () => onchoose(value),
      }),
      make("span", { className: "mark" }, label),
      hint ? make("small", {}, hint) : null,
    ),
  );
  // On a phone side by side only where the longest word under each fits beside the others.
  const widths = labels.map(([, label, hint]) =>
    Math.max(...`${label} ${hint ?? ""}`.split(/\s+/).map((word) => word.length)));
  const long = widths.reduce((sum, width) => sum + Math.max(width, 3), 0) > 30;
  return make(
    "fieldset",
    { className: "item" },
    make("legend", {}, legend),
    make("div", { className: long ? "choices long" : "choices" }, ...rows),
  );
}

export function playerRow(players, n, label, key, parts, minimum) {
  const button = make(
    "button",
    { type: "button", className: "play", onclick: () => players.toggle(n) },
  );
  const bar = make("progress", { max: 1, value: 0, ariaLabel: `Place in ${label}` });
  const dots = parts > 1
    ? Array.from({ length: parts }, (_, part) => make("span", { className: "part" }, `${part + 1}`))
    : [];
  const note = make("small", { className: "heard" });
  const row = make(
    "div",
    { className: "player" },
    button,
    make("div", { className: "place" }, bar, make("div", { className: "parts" }, ...dots), note),
  );
  row.draw = () => {
    const ready = players.sounds[n] !== null;
    const playing = players.isPlaying(n);
    button.disabled = !ready;
    const verb = playing ? "Stop" : "Play";
    const text = ready ? `${verb} ${label}` : `${label} is loading`;
    if (button.textContent !== text) button.textContent = text;
    button.setAttribute("aria-keyshortcuts", key);
    row.classList.toggle("playing", playing);
    const share = ready ? players.place(n) / players.duration(n) : 0;
    bar.value = share;
    dots.forEach((dot, part) =>
      dot.classList.toggle("now", playing && Math.floor(share * parts) === part),
    );
    const left = minimum - players.heardOf(n);
    const heard = players.heardOf(n) > 0 ? "heard" : "";
    const words = left > 0.05 ? `listen for ${Math.ceil(left)} s more` : heard;
    if (note.textContent !== words) note.textContent = words;
  };
  return row;
}

export function uniqueNumber() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
