/** What a document is called: its title, where it has one that is not just its file's name. */

function titled({ title, source }) {
  return Boolean(title) && title !== source.replace(/\.[^.]*$/, "");
}

export function documentName(document) {
  return titled(document) ? document.title : document.source;
}

/** The file's name where `documentName` is another; else empty. */
export function fileBeside(document) {
  return titled(document) ? document.source : "";
}
