// Package docs tests the manual against the program: README.md, CHANGELOG.md and
// docs/.
//
// Every link leads somewhere; every TOML block loads; every key, default,
// command, flag, reason, metric and dependency stands in its page, and nothing
// that is not there; the files and tests that pages name exist; and the README's
// ten minutes are lived through, with the binary, by its own files.
//
// It is not for whether the prose is right: that is for readers.
package docs
