// Package audit is the tamper-evident log of who was shown what, without a database: the canonical bytes of a record,
// the RFC 6962 Merkle tree over them, checkpoints signed as C2SP tlog-checkpoint, proofs, and the export directory of
// C2SP tlog-tiles that anyone can verify offline.
//
// What it promises: the bytes of a record have exactly one form and never change; a tree head that was signed covers
// every record before it; and [VerifyExport] refuses a directory in which a record was changed, moved, added, taken away
// or re-dated since the checkpoint was signed. What it cannot promise is that nobody holding the signing key wrote a
// second history: that needs a checkpoint kept somewhere else, which VerifyExport accepts as [Options.Since].
package audit
