// Package edit changes the text of a registry as a careful person would: what is
// added looks like what stands around it, and everything else stays as it is,
// octet for octet: comments, order, blank lines, line ends.
//
// Three steps. A scanner finds where each expression of the TOML text stands
// (scan.go); a layout tells which of them are of one organisation, whether it is
// written as [[tables]], as inline tables or as dotted keys (layout.go); each
// change is a few replacements of passages of the text (change.go, list.go).
// Write puts the new text in the file's place (file.go), Diff shows the change.
//
// What belongs to a table is the comment right above it and right below it, with
// no blank line between. It goes when the table goes. A comment that stands above
// the next table is that table's, and one at the top of the file is the file's.
//
// Guaranteed, for a text that loads: the new text is TOML with the change and no
// other; taking out what was added gives the old text back. Whether the new text
// loads is not asked here: a change may make two claims to one identifier. Callers
// check the whole configuration (config.Propose) before they write.
//
// It is not for texts that do not load, nor for any file but the registry.
package edit
