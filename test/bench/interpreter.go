package main

import (
	"github.com/atoll-cloud/atoll/test/harness"
)

// Names of rows that others are put beside.
const (
	codeWarm = "first code answered, warm pool"
	codeOff  = "first code answered, pool off"
)

// interpreter measures code in kernels: sandboxes of the template that the
// code-interpreter SDKs ask for. A start without snapshot boots the guest and
// the kernel, as it would be without a template that holds it warm.
func (b *bench) interpreter() error {
	flags := []string{"--templates", "base,code-interpreter-v1", "--max-sandboxes", limit}
	if err := b.with(b.codeInWarm, flags...); err != nil {
		return err
	}
	off := append(flags, "--pool", "0", "--pool-max", "0")
	if err := b.with(func(s *harness.Server) error {
		b.say("code with the pool off")
		return b.firstCode(s, func(took []float64) { b.add(codeOff, "ms", took, &goal{Median: 200}) })
	}, off...); err != nil {
		return err
	}
	return b.with(func(s *harness.Server) error {
		b.say("code with pool and snapshot off")
		return b.firstCode(s, func(took []float64) {
			b.compare(codeWarm, coldStart, took...)
			b.compare(codeOff, coldStart, took...)
		})
	}, append(off, "--cold")...)
}

// codeInWarm measures what a client sees of kernels that run.
func (b *bench) codeInWarm(s *harness.Server) error {
	b.say("code with a warm pool")
	if err := b.firstCode(s, func(took []float64) { b.add(codeWarm, "ms", took, &goal{Median: 30}) }); err != nil {
		return err
	}
	f, err := b.sdk(s, "executions", b.runs)
	if err != nil {
		return err
	}
	b.add("run_code('x+=1')", "ms", f["execution"], &goal{Median: 8})
	b.add("10 MB of printed output", "MB/s", f["output"], &goal{Least: 20})
	b.add("memory that 1,000 executions leave", "MiB", f["grown"], &goal{Median: 4})
	return nil
}

// firstCode measures creates until run_code('1+1') has answered.
func (b *bench) firstCode(s *harness.Server, report func([]float64)) error {
	if err := s.AwaitTemplate(b.ctx, "code-interpreter-v1"); err != nil {
		return err
	}
	f, err := b.sdk(s, "code", max(b.runs/5, 5))
	if err != nil {
		return err
	}
	report(f["code"])
	return nil
}
