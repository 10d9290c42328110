// Package evaluate measures detection: it lets a Detector read traffic of which the
// truth is known (lab/campaign), and counts.
//
//	World ─► gate (caps, actions in force) ─► Detector ─► findings ─► judged by the labels ─► Trial
//	Trials of many seeds ─► Report, with intervals ─► the tables of docs/detection.md
//
// The loop is closed: what a finding proposes, up to what organisations allow by
// themselves, is put in force a moment later, and the messages it would stop do not
// leave. So are the caps of trust tiers (relay/limit), for attacks. Both are modelled
// here; that the relay does the same is tested where the relay is.
//
// Thresholds may be tuned on the Tuning seeds only. What is reported comes from the
// Reporting seeds, which are others, in the standard world and in worlds whose
// parameters were shifted. Both lists are frozen: a test knows their sum.
//
// What it is not: evidence about anybody's real mail. The traffic is a model.
package evaluate
