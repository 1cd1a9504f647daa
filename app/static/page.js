// What the page's scripts share: where the server is, elements by their data attribute, sentences.

export const base = new URL(".", document.baseURI).href;

export const find = (name) => document.querySelector(`[data-studio="${name}"]`);

export const times = (count) => (count === 1 ? "once" : `${count} times`);

export function say(name, text) {
  const element = find(name);
  if (element && element.textContent !== text) element.textContent = text;
}

export async function post(path, body) {
  const answer = await fetch(base + path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  if (!answer.ok) {
    let message = "The studio did not answer.";
    try {
      message = (await answer.json()).error || message;
    } catch { /* not ours: the plain sentence stays */ }
    throw new Error(message);
  }
  return answer;
}

// One thing sounds at a time: what starts asks all others to be silent.
const silencers = [];

export const silenced = (by) => silencers.push(by);

export function silenceOthers(own) {
  silencers.filter((by) => by !== own).forEach((by) => by());
}

export function dialColour(share) {
  const from = [47, 111, 183]; // quality: blue
  const to = [217, 98, 43]; // diversity: ember
  const mixed = from.map((x, i) => Math.round(x + (to[i] - x) * share));
  return `rgb(${mixed.join(",")})`;
}
