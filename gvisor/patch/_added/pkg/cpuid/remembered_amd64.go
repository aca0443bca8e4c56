package cpuid

// remembered asks once for each answer. Making a fixed set of the processor's
// features asks 300 times for some 40 of them, and where the host is a virtual machine
// its hypervisor answers, which takes microseconds.
type remembered struct {
	Function
	answers Static
}

// Query implements Function.Query.
func (r remembered) Query(in In) Out {
	in.normalize()
	out, ok := r.answers[in]
	if !ok {
		out = r.Function.Query(in)
		r.answers[in] = out
	}
	return out
}
