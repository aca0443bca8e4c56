#include "go_asm.h"
#include "textflag.h"

#define SYS_exit 60
#define SYS_clone3 435

// The child shares the parent's memory and stack, and the parent stands still
// until it has executed a program or ended. So the child calls nothing and
// leaves the stack alone.

// func run(s *script) (pid int)
TEXT ·run(SB), NOSPLIT|NOFRAME, $0-16
	MOVQ	s+0(FP), BX
	LEAQ	script_clone(BX), DI
	MOVQ	$cloneArgs__size, SI
	MOVQ	script_calls(BX), R12
	MOVQ	$SYS_clone3, AX
	SYSCALL
	TESTQ	AX, AX
	JZ	child
	MOVQ	AX, pid+8(FP)
	RET
child:
	MOVQ	call_number(R12), AX
	MOVQ	(call_args+0)(R12), DI
	MOVQ	(call_args+8)(R12), SI
	MOVQ	(call_args+16)(R12), DX
	SYSCALL
	ADDQ	$call__size, R12
	CMPQ	AX, $0xfffffffffffff001
	JCS	child	// the last call, execve, returns with an error only
	NEGQ	AX
	MOVQ	AX, script_failed(BX)
	MOVQ	$127, DI
	MOVQ	$SYS_exit, AX
	SYSCALL
	INT	$3
