package jobs_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/jobs"
)

const wrongJob = `job "x" {
  nonsense = 1
  group "g" {
    service {
      connect {
        sidecar_service {
          nonsense {}
        }
      }
    }
    task "t" {
      config {
        anything {}
      }
    }
  }
}
`

func TestParseErrors(t *testing.T) {
	t.Parallel()
	file, err := jobs.ParseFile("x.hcl", []byte(wrongJob))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, body, want string }{
		{"argument of the job", "input.hcl:2,3-11: Unsupported argument; An argument named \"nonsense\" is not expected here.", "x.hcl:2,3-11: Unsupported argument: An argument named \"nonsense\" is not expected here. The arguments here are all_at_once, "},
		{"block", "input.hcl:7,11-19: Unsupported block type; Blocks of type \"nonsense\" are not expected here.", "The blocks here are meta, proxy."},
		{"hint of Nomad's", "input.hcl:7,11-19: Unsupported block type; Did you mean \"proxy\"?", "x.hcl:7,11-19: Unsupported block type: Did you mean \"proxy\"?"},
		{"configuration of a driver", "input.hcl:13,9-17: Unsupported block type; x", "x.hcl:13,9-17: Unsupported block type: x"},
		{"more lines", "input.hcl:2,3-11: One; two\n\nthree", "x.hcl:2,3-11: One: two; three"},
		{"several lines of source", "input.hcl:2,3-4,1: One", "x.hcl:2,3-4: One"},
		{"another file", ":0,0-0: Invalid value", "x.hcl: Invalid value"},
		{"no place", "everything is wrong", "x.hcl: everything is wrong"},
		{"files", "input.hcl:2,3-11: Error in function call; filesystem function disabled", "which has not your files"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			wrong := jobs.ParseErrors(file, "Failed to parse job: "+c.body+"\n")
			if len(wrong) != 1 || !strings.Contains(wrong.Error(), c.want) {
				t.Errorf("got %v, want %q", wrong, c.want)
			}
		})
	}
	if wrong := jobs.ParseErrors(file, "Permission denied"); wrong != nil {
		t.Errorf("got %v of another answer", wrong)
	}
}

func TestErrorsWrite(t *testing.T) {
	t.Parallel()
	wrong := jobs.Errors{
		{File: "a.hcl", Line: 12, Column: 2, EndColumn: 5, Text: "wrong", Source: "\tone = 1"},
		{Text: "without a place"},
	}
	var b bytes.Buffer
	if err := wrong.Write(&b, false); err != nil {
		t.Fatal(err)
	}
	want := "a.hcl:12,2-5: error: wrong\n  12 | \tone = 1\n     | \t^^^\nerror: without a place\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestListed(t *testing.T) {
	t.Parallel()
	text := "1 error occurred:\n\t* Task group g validation failed: 2 errors occurred:\n\t* first\n\t* second\n\n"
	want := []string{"Task group g validation failed", "first", "second"}
	if diff := cmp.Diff(want, jobs.Listed(text)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"plain"}, jobs.Listed(" plain\n")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := jobs.Listed(" \n"); got != nil {
		t.Errorf("got %q of nothing", got)
	}
}

// FuzzParseErrors reads any answer of whoever takes Nomad's place.
func FuzzParseErrors(f *testing.F) {
	f.Add("Failed to parse job: input.hcl:3,5-13: Unsupported argument; An argument named \"nonsense\" is not expected here.\nmore")
	f.Add("Failed to parse job: input.hcl:99999999999999999999,5-13: x")
	file, err := jobs.ParseFile("x.hcl", []byte(wrongJob))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body string) {
		wrong := jobs.ParseErrors(file, body)
		if err := wrong.Write(&bytes.Buffer{}, true); err != nil {
			t.Error(err)
		}
	})
}
