/**
 * Header fields are pairs of a name in lower case and a value, both byte strings; edits of them are the contract's.
 *
 * @typedef {[string, string]} Field
 * @typedef {{kind: "set" | "append", value: {name: string, value: string}}
 *   | {kind: "remove", value: string}} HeaderEdit
 */

const NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;

/**
 * The fields with the edits in their order. An edit whose name or value HTTP does not allow is left out.
 *
 * @param {HeaderEdit[]} edits
 * @param {Field[]} fields
 * @returns {Field[]}
 */
export function applyEdits(edits, fields) {
  return edits.filter(isSendable).reduce((before, edit) => {
    const name = editedName(edit).toLowerCase();
    const kept = edit.kind === "append" ? [...before] : before.filter(([each]) => each !== name);
    if (edit.kind !== "remove") kept.push([name, edit.value.value]);
    return kept;
  }, fields);
}

/** The name of the field that an edit is about. @param {HeaderEdit} edit */
export function editedName(edit) {
  return edit.kind === "remove" ? edit.value : edit.value.name;
}

/** Whether HTTP allows what an edit says. @param {HeaderEdit} edit */
export function isSendable(edit) {
  return NAME.test(editedName(edit)) && (edit.kind === "remove" || VALUE.test(edit.value.value));
}
