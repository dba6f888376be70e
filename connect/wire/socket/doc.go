// Package socket reads and writes sockets with fewer and cheaper system calls
// than package net: a read that waits takes memory only when there is something
// to read, and what is written before an answer is awaited leaves in the same
// step in which the wait begins, so that nobody asks for the answer in vain.
//
// On Linux the calls do not tell the scheduler of Go that they begin and end,
// since none of them waits.
package socket
