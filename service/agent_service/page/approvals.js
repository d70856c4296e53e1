// A tool call that waits for an approval: what would be called, and the buttons of the decision.
import { box, json, named, visible } from "./exact.js";

// The service accepts no longer reason.
const LONGEST_REASON = 2_000;

/**
 * Returns the card of a call that waits. `decide` is called with `{ approve, reason }`, or with `{}` to go on when an
 * approver has decided.
 */
export function addCard(call, decide) {
  const element = document.createElement("section");
  element.className = "approval";
  element.tabIndex = -1;
  element.setAttribute("aria-label", `Approval of ${visible(call.tool)}`);
  const title = paragraph("title", named(call.tool), " of the server ", named(call.server), " waits for an approval.");
  const input = box(`Arguments of ${visible(call.tool)}`, json(call.input));
  const hint = paragraph("hint", "The arguments are longer than this box: scroll to read all of them.");
  const [reasonLine, reason] = field("Reason for a rejection (optional)");
  const approve = button("Approve", () => decide({ approve: true }));
  const reject = button("Reject", () => decide({ approve: false, ...(reason.value.trim() && { reason: reason.value }) }));
  reject.classList.add("quiet");
  const actions = document.createElement("div");
  actions.className = "row";
  actions.append(approve, reject);
  const problem = paragraph("problem");
  problem.setAttribute("role", "alert");
  problem.hidden = true;
  element.append(title, input, hint, expiry(call.expires_at), reasonLine, actions, problem);
  return {
    element,
    /** Adapts the card to its size on the page. */
    measure() {
      hint.hidden = input.scrollHeight <= input.clientHeight;
    },
    clearProblem() {
      problem.hidden = true;
    },
    /** Shows why a decision had no effect. `open`: whether another may be made; `goOn`: whether the turn may go on. */
    refuse(message, { open, goOn }) {
      problem.textContent = message;
      problem.hidden = false;
      reasonLine.hidden = !open;
      actions.replaceChildren(...(open ? [approve, reject] : []), ...(goOn ? [goOnButton(open, () => decide({}))] : []));
    },
  };
}

/** Returns the button that goes on with a turn. */
export function goOnButton(isUndecided, goOn) {
  const element = button(isUndecided ? "Go on when an approver has decided" : "Go on", goOn);
  element.classList.add("quiet");
  return element;
}

function button(label, act) {
  const element = document.createElement("button");
  element.type = "button";
  element.className = "decide";
  element.textContent = label;
  element.addEventListener("click", act);
  return element;
}

function field(text) {
  const label = document.createElement("label");
  const input = document.createElement("input");
  input.maxLength = LONGEST_REASON;
  input.autocomplete = "off";
  label.append(text, input);
  return [label, input];
}

function expiry(at) {
  const time = document.createElement("time");
  time.dateTime = at;
  time.textContent = new Date(at).toLocaleString("en", { dateStyle: "medium", timeStyle: "long" });
  return paragraph("facts", "Expires on ", time, ".");
}

function paragraph(kind, ...content) {
  const element = document.createElement("p");
  element.className = kind;
  element.append(...content);
  return element;
}
