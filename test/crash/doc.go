// Package crash kills the real program, again and again, at random moments of
// its life under load, and accounts for every message that it acknowledged.
//
// The binary is built once and runs on one data directory. Several connections
// send without a pause; a receiver counts what comes; one of its domains puts
// mail off now and then. The process is killed (SIGKILL) and started again, the
// start itself not spared. In the end every message that got its 250 was
// delivered, nothing waits, each duplicate is explained by an attempt that was in
// flight when a process died, and the ledger verifies.
//
// 200 kills take about three minutes; go test -short makes 20, and
// ANECHOIC_KILLS any number.
package crash
