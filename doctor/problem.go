// Package doctor holds what rooms tell the doctor (atoll doctor) about the host:
// each looks for what it needs itself, and says it in one form.
package doctor

// Problem is something that this host lacks or has set so that a part of Atoll
// does not work, or only in part.
type Problem struct {
	// Fatal says that the part cannot do without it.
	Fatal bool
	// What is wrong, as a clause or a sentence.
	What string
	// Mend is what a person can do about it. "install the package NAME" names a
	// package of Debian's.
	Mend string
}
