// What screen readers say.
const spoken = document.getElementById("spoken");

/** Announces a sentence to screen readers. */
export function announce(sentence) {
  spoken.textContent = sentence;
}
