// Package acceptance holds the acceptance matrix: what the relay as a whole must
// do with each known attack and each legitimate case, rows A01 to A64.
//
// The relay under test is the program as it is (package app) with a
// configuration file, a registry and an internet of its own on loopback (package
// lab). Peers of any address come through its PROXY listener; a raw SMTP client
// sends any octets. For each variant of a row the tests look at the reply, at
// what arrived at the receiver, and at what the ledger says.
//
// A row that waits for a part of the program which is not written yet is marked
// pending; variants that it has already run all the same. The number of both
// kinds is printed.
//
// Beside the matrix stand the property test of the invariants over evidence and
// configuration, and a test that gives zero values to every consumer of rights.
package acceptance
