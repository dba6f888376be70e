package listen_test

import (
	"testing"

	"github.com/serai-net/serai/connect/listen"
)

// What was asked of all listeners, or of the inbound ones, is asked of those that come.
func TestDrainAndStopHoldForNewOnes(t *testing.T) {
	t.Parallel()
	for _, inboundOnly := range []bool{false, true} {
		in, out := spec("127.0.0.1", chain(&echo{})), specAt(free(t), chain(&echo{}))
		out.Outbound = true
		s := newSet(t, listen.Config{})
		s.Drain(inboundOnly)
		commit(t, s, in, out)
		mustTalk(t, dial(t, stats(t, s, in.Name).Address))
		mustTalk(t, dial(t, out.Address.String()))
		if !first(in).Drain().Draining() || first(out).Drain().Draining() == inboundOnly {
			t.Errorf("inbound only %t: the inbound one drains %t, the outbound one %t", inboundOnly, first(in).Drain().Draining(), first(out).Drain().Draining())
		}
		// One that was prepared before is not left out, nor one that comes.
		late, other := specAt(free(t), chain(&echo{})), specAt(free(t), chain(&echo{}))
		done, err := s.Prepare([]*listen.Spec{in, out, late})
		if err != nil {
			t.Fatal(err)
		}
		s.Stop(inboundOnly)
		done()
		mustBeFree(t, late.Address)
		commit(t, s, in, out, late, other)
		mustBeFree(t, other.Address)
		if accepts(out.Address.String()) != inboundOnly {
			t.Errorf("inbound only %t: the outbound one accepts otherwise", inboundOnly)
		}
		commit(t, s)
	}
}
