package jobs

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
)

// Render gives the file's text with the values as the defaults of its
// variables. All else, comments too, stays as it is.
func (f *File) Render(values *Values) ([]byte, error) {
	file, diags := hclwrite.ParseConfig(f.Text, f.Name, hcl.InitialPos)
	if diags.HasErrors() {
		return nil, errorsOf(f.Text, diags)
	}
	for _, block := range file.Body().Blocks() {
		if block.Type() != "variable" || len(block.Labels()) != 1 {
			continue
		}
		value, ok := values.given[block.Labels()[0]]
		if !ok {
			continue
		}
		if !hasDefault(block) {
			insertDefault(block, value)
			continue
		}
		block.Body().SetAttributeRaw("default", tokens(value))
	}
	text := hclwrite.Format(file.Bytes())
	if _, err := ParseFile(f.Name, text); err != nil {
		return nil, fmt.Errorf("render %s: the result is no job file: %w", f.Name, err)
	}
	return text, nil
}

func hasDefault(block *hclwrite.Block) bool { return block.Body().GetAttribute("default") != nil }

// insertDefault puts a default where readers look for it: after the type. The
// writer can only append, so that what follows is taken out and put back.
func insertDefault(block *hclwrite.Block, value cty.Value) {
	body := block.Body()
	var later []struct {
		name   string
		tokens hclwrite.Tokens
	}
	if attr := body.GetAttribute("description"); attr != nil {
		later = append(later, struct {
			name   string
			tokens hclwrite.Tokens
		}{"description", attr.Expr().BuildTokens(nil)})
		body.RemoveAttribute("description")
	}
	rules := body.Blocks()
	for _, one := range rules {
		body.RemoveBlock(one)
	}
	body.SetAttributeRaw("default", tokens(value))
	for _, one := range later {
		body.SetAttributeRaw(one.name, one.tokens)
	}
	for _, one := range rules {
		body.AppendBlock(one)
	}
}

// tokens writes a value. Text of several lines becomes a heredoc, so that a
// configuration stays readable.
func tokens(value cty.Value) hclwrite.Tokens {
	if value.IsNull() || value.Type() != cty.String || !plainLines(value.AsString()) {
		return hclwrite.TokensForValue(value)
	}
	text := value.AsString()
	end := "EOT"
	for strings.Contains(text, end) {
		end += "X"
	}
	// In a heredoc only these two begin anything; a backslash is one.
	text = strings.NewReplacer("${", "$${", "%{", "%%{").Replace(text)
	return hclwrite.Tokens{
		{Type: hclsyntax.TokenOHeredoc, Bytes: []byte("<<" + end + "\n")},
		{Type: hclsyntax.TokenStringLit, Bytes: []byte(text)},
		{Type: hclsyntax.TokenCHeredoc, Bytes: []byte(end)},
	}
}

// plainLines says that text is of several lines, and that a heredoc can hold it:
// no control characters, and no escape of a template that would be taken for ours.
func plainLines(text string) bool {
	odd := func(r rune) bool { return r != '\n' && r != '\t' && !unicode.IsPrint(r) }
	return strings.HasSuffix(text, "\n") && strings.Count(text, "\n") > 1 && !strings.ContainsFunc(text, odd) &&
		!strings.Contains(text, "$${") && !strings.Contains(text, "%%{")
}
