package pgtest

const DirPattern = dirPattern

var Sweep = sweep
