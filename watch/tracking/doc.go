// Package tracking finds any message in a moment: it is an index of the ledger, in
// SQLite files, one for each day.
//
//	ledger ─► pull ─► the latest facts, in memory ─► flush ─► a partition: tracking/<day>.<first offset>.sqlite
//	query ─► partitions by their postings, gaps and the latest facts one by one ─► a page, and what it covers
//
// Everything here is a projection: the ledger alone is the truth, and an index that
// is missing, damaged, of another ledger or made under other rules is set aside and
// made again. Meanwhile the ledger itself is read where the index has a gap, so an
// answer is slower, never incomplete without saying so.
//
// What it guarantees:
//
//   - Nothing of it lies in the path of a message.
//   - The order of an answer is that of the ledger, by offset; pages are cut by it, so
//     they stay as they are while facts come in.
//   - Every answer states its window, what was covered, why it ended, what is kept,
//     and up to where the index is ("as of"). No query runs longer than its budget.
//   - A search bound to an organisation gives facts of that one only: those it proved,
//     and refused mail that claimed it and that nobody proved.
//   - Rules of an organisation about personal data (Mode) and how long it is found hold
//     in the files, and from the moment they change in every answer.
//
// A partition holds facts in batches. A batch has its facts as compressed blocks of
// ledger records, and for each term (see terms) the rows that have it. Batches are
// appended in one transaction with the offset the next one begins at: stopped
// anywhere, none is there twice and none is missing.
//
// The program that opens an index registers the driver, by importing modernc.org/sqlite:
// whoever needs the words of queries or rules alone is spared its code.
//
// It is not for counting or alarms, which follow the ledger themselves.
package tracking
