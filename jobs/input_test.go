package jobs_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/serai-net/serai/jobs"
)

// types is a job file with a variable of each type, and nothing in its job.
const types = `
variable "text" {
  type = string
  default = ""
}
variable "number" {
  type = number
  default = 1
  validation {
    condition     = var.number < 10
    error_message = "It must be below ten."
  }
}
variable "yes" {
  type = bool
  default = false
}
variable "list" {
  type = list(string)
  default = []
}
variable "map" {
  type = map(number)
  default = {}
}
variable "any" {
  default = null
}
variable "odd" {
  type    = string
  default = ""
  validation {
    condition     = uuidv4() != var.odd # a function that only Nomad has
    error_message = "never"
  }
}
job "x" {}
`

func TestValues(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		in   jobs.Input
		want string // the values as text, or ...
		fail string // ... what is in the error
	}{
		{"none", jobs.Input{}, "", ""},
		{"text as it stands", jobs.Input{Vars: []string{`text=a "b" = ${c}, [1]`}}, `text = "a \"b\" = $${c}, [1]"` + "\n", ""},
		{"lines", jobs.Input{Vars: []string{"text=a {\n  b = \"${c} %{d}\\\"\n}\n"}}, "text = <<EOT\na {\n  b = \"$${c} %%{d}\\\"\n}\nEOT\n", ""},
		{"lines with the end in them", jobs.Input{Vars: []string{"text=a\nEOT\nb\n"}}, "text = <<EOTX\na\nEOT\nb\nEOTX\n", ""},
		{"number", jobs.Input{Vars: []string{"number=7"}}, "number = 7\n", ""},
		{"bool", jobs.Input{Vars: []string{"yes=true"}}, "yes = true\n", ""},
		{"list", jobs.Input{Vars: []string{`list=["a", "b"]`}}, `list = ["a", "b"]` + "\n", ""},
		{"map", jobs.Input{Vars: []string{"map={ a = 1 }"}}, "map = {\n  a = 1\n}\n", ""},
		{"bare word for any", jobs.Input{Vars: []string{"any=word"}}, `any = "word"` + "\n", ""},
		{"rule that is not known", jobs.Input{Vars: []string{"odd=x"}}, `odd = "x"` + "\n", ""},
		{"environment", jobs.Input{Environ: []string{"NOMAD_VAR_number=3", "NOMAD_VAR_other=1", "number=4"}}, "number = 3\n", ""},
		{"the last wins", jobs.Input{Environ: []string{"NOMAD_VAR_number=3"}, Vars: []string{"number=4", "number=5"}}, "number = 5\n", ""},

		{"no value", jobs.Input{Vars: []string{"text"}}, "", "it must be name=value"},
		{"unknown", jobs.Input{Vars: []string{"nubmer=1"}}, "", `has no variable "nubmer", did you mean "number"?`},
		{"unknown, like none", jobs.Input{Vars: []string{"zzzzzzzz=1"}}, "", `has no variable "zzzzzzzz"; there are any, list, map, number`},
		{"no number", jobs.Input{Vars: []string{"number=seven"}}, "", `"seven" is no number; write for example -var number=10`},
		{"no bool", jobs.Input{Vars: []string{"yes=[1]"}}, "", "-var yes: it must be bool"},
		{"no list", jobs.Input{Vars: []string{"list=a,b"}}, "", `write for example -var 'list=["text"]'`},
		{"map of the wrong", jobs.Input{Vars: []string{`map={ a = "b" }`}}, "", "-var map: it must be map(number)"},
		{"rule", jobs.Input{Vars: []string{"number=10"}}, "", "-var number: It must be below ten."},
		{"rule, from the environment", jobs.Input{Environ: []string{"NOMAD_VAR_number=10"}}, "", "NOMAD_VAR_number: It must be below ten."},
		{"no file", jobs.Input{Files: []string{"/nowhere.hcl"}}, "", "-var-file /nowhere.hcl"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			file, err := jobs.ParseFile("x.hcl", []byte(types))
			if err != nil {
				t.Fatal(err)
			}
			values, err := file.Values(c.in)
			switch {
			case c.fail != "" && (err == nil || !strings.Contains(err.Error(), c.fail)):
				t.Errorf("got error %v, want %q", err, c.fail)
			case c.fail == "" && err != nil:
				t.Error(err)
			case c.fail == "" && values.Text() != c.want:
				t.Errorf("got %q, want %q", values.Text(), c.want)
			}
		})
	}
}

func TestValuesFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file, err := jobs.ParseFile("x.hcl", []byte(types))
	if err != nil {
		t.Fatal(err)
	}
	values, err := file.Values(jobs.Input{
		Files: []string{write("a.hcl", "number = 2\nlist = [\"a\"]\n"), write("b.json", `{"number": 3, "text": "t"}`)},
		Vars:  []string{"text=u"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := values.Text(), "list   = [\"a\"]\nnumber = 3\ntext   = \"u\"\n"; strings.Join(strings.Fields(got), " ") != strings.Join(strings.Fields(want), " ") {
		t.Errorf("got %q, want %q", got, want)
	}
	bad := write("bad.hcl", "number = \"x\"\n\nlits = [1]\nblock {}\n")
	_, err = file.Values(jobs.Input{Files: []string{bad, write("half.hcl", "a = [")}})
	for _, want := range []string{bad + ":4", "half.hcl:1"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	_, err = file.Values(jobs.Input{Files: []string{write("c.hcl", "number = \"x\"\n\nlits = [1]\n")}})
	for _, want := range []string{"c.hcl:1: number: it must be number", `c.hcl:3,1-5: `, `did you mean "list"?`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
}

func TestRequired(t *testing.T) {
	t.Parallel()
	file, err := jobs.Open("service", nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = file.Values(jobs.Input{Vars: []string{"command=x"}})
	if err == nil || !strings.Contains(err.Error(), `needs a value for variable "name"`) || strings.Contains(err.Error(), `"command"`) {
		t.Errorf("got %v", err)
	}
	// What was given, but wrong, is not missing as well.
	_, err = file.Values(jobs.Input{Vars: []string{"name=Web", "command=x"}})
	if err == nil || strings.Contains(err.Error(), "needs a value") || !strings.Contains(err.Error(), "lower-case") {
		t.Errorf("got %v", err)
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, stdin, fail string }{
		{"edg", "", `did you mean "edge"?`},
		{"nothing", "", "there are edge, service, service-docker, dns; and no file of that name"},
		{"./edge", "", "no such file"},
		{"nothing.hcl", "", "no such file"},
		{"-", "", "this has 0"},
		{"-", "job \"a\" {}\njob \"b\" {}", "this has 2"},
		{"-", "job \"a\" {", "standard input:1"},
		{"-", `variable "a" "b" {}` + "\njob \"a\" {}", "a variable has one name"},
		{"-", "variable \"a\" {\n  type = strin\n}\njob \"a\" {}", "standard input:2"},
		{"-", "variable \"a\" {\n  type = number\n  default = \"x\"\n}\njob \"a\" {}", `the default of variable "a" is no number`},
		{"-", strings.Repeat("#", 5<<20), "longer than"},
	} {
		_, err := jobs.Open(c.name, strings.NewReader(c.stdin))
		if err == nil || !strings.Contains(err.Error(), c.fail) {
			t.Errorf("open %q: got %v, want %q", c.name, err, c.fail)
		}
	}
}

// FuzzText gives a variable any text: what is written for Nomad is that text.
func FuzzText(f *testing.F) {
	for _, seed := range []string{"", "a", "a\nb\n", "${a}\n%{b}\n", "$${a}\n\n", "\\\n\"\n", "EOT\nEOT\n", "\r\n\r\n", "%%{\n\n", "$\n${\n"} {
		f.Add(seed)
	}
	file, err := jobs.ParseFile("x.hcl", []byte("variable \"text\" {\n  type = string\n}\njob \"x\" {}\n"))
	if err != nil {
		f.Fatal(err)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		values, err := file.Values(jobs.Input{Vars: []string{"text=" + text}})
		if err != nil {
			t.Skip(err)
		}
		path := filepath.Join(dir, "v.hcl")
		if err := os.WriteFile(path, []byte(values.Text()), 0o600); err != nil {
			t.Fatal(err)
		}
		again, err := file.Values(jobs.Input{Files: []string{path}})
		if err != nil {
			t.Fatalf("%q is written as what cannot be read: %v\n%s", text, err, values.Text())
		}
		if got, want := again.Text(), values.Text(); got != want {
			t.Errorf("%q became another text:\n%s\nand not\n%s", text, got, want)
		}
		rendered, err := file.Render(values)
		if err != nil {
			t.Fatalf("render %q: %v", text, err)
		}
		if _, err := jobs.ParseFile("x.hcl", rendered); err != nil {
			t.Fatalf("render %q: %v", text, err)
		}
	})
}

// FuzzParseFile reads anything.
func FuzzParseFile(f *testing.F) {
	f.Add([]byte(types))
	f.Add([]byte("variable {}\njob \"x\" {"))
	f.Add([]byte("variable \"a\" {\n type = object({a=number})\n default = {a=1}\n}\njob \"x\" {}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		file, err := jobs.ParseFile("x.hcl", text)
		if err != nil {
			return
		}
		values, err := file.Values(jobs.Input{})
		if err != nil {
			return
		}
		if _, err := file.Render(values); err != nil {
			t.Errorf("%q can be read, and not rendered: %v", text, err)
		}
	})
}
