package network

import (
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The conditions and verdicts that the firewall's rules are put together from.
// Registers: 1 and 2 hold 16 bytes each; wordRegister is the second word of 1.
const wordRegister = unix.NFT_REG32_01

type part []expr.Any

// rule joins parts into the expressions of one rule.
func rule(parts ...part) []expr.Any {
	var all []expr.Any
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func nameMatch(key expr.MetaKey, op expr.CmpOp, name []byte) part {
	return part{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: name}}
}

// fromLinks matches packets that came in on a link whose name starts so.
func fromLinks(prefix string) part {
	return nameMatch(expr.MetaKeyIIFNAME, expr.CmpOpEq, []byte(prefix))
}

// toLinks matches packets that leave by a link whose name starts so.
func toLinks(prefix string) part {
	return nameMatch(expr.MetaKeyOIFNAME, expr.CmpOpEq, []byte(prefix))
}

// notToLinks matches packets that leave by any other link.
func notToLinks(prefix string) part {
	return nameMatch(expr.MetaKeyOIFNAME, expr.CmpOpNeq, []byte(prefix))
}

func fromLink(name string) part { return nameMatch(expr.MetaKeyIIFNAME, expr.CmpOpEq, linkKey(name)) }
func toLink(name string) part   { return nameMatch(expr.MetaKeyOIFNAME, expr.CmpOpEq, linkKey(name)) }

// linkKey is an interface name as the kernel compares it: padded with zeros.
func linkKey(name string) []byte {
	key := make([]byte, unix.IFNAMSIZ)
	copy(key, name)
	return key
}

func protocolFamily(op expr.CmpOp, family byte) part {
	return part{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: []byte{family}}}
}

func transport(protocol byte) part {
	return part{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{protocol}}}
}

func loadSource(register uint32) *expr.Payload {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4}
}

func loadDestination(register uint32) *expr.Payload {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4}
}

func sourceIs(addr []byte) part {
	return part{loadSource(1), &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: addr}}
}

func destinationIs(addr []byte) part {
	return part{loadDestination(1), &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: addr}}
}

func sourceWithin(s span) part {
	return part{loadSource(1), &expr.Range{Op: expr.CmpOpEq, Register: 1, FromData: numberBytes(s.first), ToData: numberBytes(s.last)}}
}

func portAt(offset uint32, port uint16) part {
	return part{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
	}
}

func sourcePort(port uint16) part      { return portAt(0, port) }
func destinationPort(port uint16) part { return portAt(2, port) }

// tcpFlags matches by the flags among mask: equal to want, or not.
func tcpFlags(mask, want byte, op expr.CmpOp) part {
	return part{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{mask}, Xor: []byte{0}},
		&expr.Cmp{Op: op, Register: 1, Data: []byte{want}},
	}
}

// trackedAs matches by connection state: any of bits set (CmpOpNeq) or none (CmpOpEq).
func trackedAs(key expr.CtKey, bits uint32, op expr.CmpOp) part {
	return part{
		&expr.Ct{Register: 1, Key: key},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)},
		&expr.Cmp{Op: op, Register: 1, Data: make([]byte, 4)},
	}
}

// setMark marks the packet's connection; markIs matches those marked so.
func setMark(mark uint32) part {
	return part{&expr.Immediate{Register: 1, Data: binaryutil.NativeEndian.PutUint32(mark)}, &expr.Ct{Key: expr.CtKeyMARK, Register: 1, SourceRegister: true}}
}

func markIs(mark uint32) part {
	return part{&expr.Ct{Key: expr.CtKeyMARK, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(mark)}}
}

func stateIs(bits uint32) part { return trackedAs(expr.CtKeySTATE, bits, expr.CmpOpNeq) }

// in matches if what loads put in the registers from 1 on is in the set.
func in(set *nftables.Set, loads ...expr.Any) part {
	return append(loads, &expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID})
}

func notIn(set *nftables.Set, loads ...expr.Any) part {
	return append(loads, &expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID, Invert: true})
}

// perSource keeps one limiter for each source address and matches once it is over.
func perSource(set *nftables.Set, operation uint32, limiter expr.Any) part {
	return part{loadSource(1), &expr.Dynset{SrcRegKey: 1, SetName: set.Name, SetID: set.ID, Operation: operation, Timeout: set.Timeout, Exprs: []expr.Any{limiter}}}
}

func verdict(kind expr.VerdictKind) part { return part{&expr.Verdict{Kind: kind}} }
func jump(chain string) part             { return part{&expr.Verdict{Kind: expr.VerdictJump, Chain: chain}} }

var (
	accept = verdict(expr.VerdictAccept)
	drop   = verdict(expr.VerdictDrop)
	goBack = verdict(expr.VerdictReturn) // to where it was jumped from
	reset  = part{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}
	// prohibited answers with ICMP "administratively prohibited".
	prohibited = part{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED}}
	untracked  = part{&expr.Notrack{}}
	masquerade = part{&expr.Masq{}}
	// clampSegments lowers a handshake's segment size to what the route carries.
	clampSegments = part{
		&expr.Rt{Register: 1, Key: expr.RtTCPMSS},
		&expr.Byteorder{SourceRegister: 1, DestRegister: 1, Op: expr.ByteorderHton, Len: 2, Size: 2},
		&expr.Exthdr{SourceRegister: 1, Type: 2, Offset: 2, Len: 2, Op: expr.ExthdrOpTcpopt},
	}
)
