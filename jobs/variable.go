package jobs

import (
	"fmt"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// Variable is one that a job file declares.
type Variable struct {
	Name        string
	Description string
	// Type as HCL writes it, such as "list(string)".
	Type string
	// Required says that it has no default.
	Required bool
	// Default as HCL writes it; "" if there is none.
	Default string

	// set by newVariable
	kind  cty.Type
	value cty.Value // the default; cty.NilVal if there is none
	rules []rule
	at    hcl.Range // of the block's head
}

// rule is a validation block.
type rule struct {
	condition hcl.Expression
	message   string
}

// newVariable reads a variable block. What is wrong with it is told as Nomad
// would; what Nomad may know and we do not is left to it.
func newVariable(block *hclsyntax.Block, text []byte) (*Variable, Errors) {
	if len(block.Labels) != 1 {
		return nil, Errors{errorAt(text, block.DefRange(), "a variable has one name: variable \"NAME\" { ... }")}
	}
	v := &Variable{Name: block.Labels[0], Required: true, kind: cty.DynamicPseudoType, at: block.DefRange()}
	var wrong Errors
	if attr := block.Body.Attributes["type"]; attr != nil {
		kind, diags := typeexpr.TypeConstraint(attr.Expr)
		wrong = append(wrong, errorsOf(text, diags)...)
		if !diags.HasErrors() {
			v.kind = kind
		}
	}
	v.Type = typeexpr.TypeString(v.kind)
	if attr := block.Body.Attributes["description"]; attr != nil {
		if value, diags := attr.Expr.Value(nil); !diags.HasErrors() && value.Type() == cty.String && !value.IsNull() {
			v.Description = value.AsString()
		}
	}
	if attr := block.Body.Attributes["default"]; attr != nil {
		v.Required = false
		v.Default = string(attr.Expr.Range().SliceBytes(text))
		value, diags := attr.Expr.Value(&hcl.EvalContext{Functions: functions()})
		wrong = append(wrong, errorsOf(text, diags)...)
		if !diags.HasErrors() {
			var err error
			if v.value, err = convert.Convert(value, v.kind); err != nil {
				wrong = append(wrong, errorAt(text, attr.Expr.Range(), "the default of variable %q is no %s: %v", v.Name, v.Type, err))
			}
		}
	}
	for _, inner := range block.Body.Blocks {
		if r, ok := newRule(inner); ok {
			v.rules = append(v.rules, r)
		}
	}
	return v, wrong
}

func newRule(block *hclsyntax.Block) (rule, bool) {
	condition, message := block.Body.Attributes["condition"], block.Body.Attributes["error_message"]
	if block.Type != "validation" || condition == nil || message == nil {
		return rule{}, false
	}
	text, diags := message.Expr.Value(nil)
	if diags.HasErrors() || text.IsNull() || text.Type() != cty.String {
		return rule{}, false
	}
	return rule{condition.Expr, text.AsString()}, true
}

// check says which rule of the variable a value breaks, or "". A rule that
// cannot be computed here holds: Nomad has the last word.
func (v *Variable) check(value cty.Value) string {
	scope := &hcl.EvalContext{
		Functions: functions(),
		Variables: map[string]cty.Value{"var": cty.ObjectVal(map[string]cty.Value{v.Name: value})},
	}
	for _, r := range v.rules {
		holds, diags := r.condition.Value(scope)
		if diags.HasErrors() || !holds.IsKnown() || holds.IsNull() || holds.Type() != cty.Bool {
			continue
		}
		if holds.False() {
			return r.message
		}
	}
	return ""
}

// example is a value that fits, as the command line takes it.
func (v *Variable) example() string {
	switch {
	case v.kind == cty.String || v.kind == cty.DynamicPseudoType:
		return fmt.Sprintf("-var %s=TEXT", v.Name)
	case v.kind == cty.Number:
		return fmt.Sprintf("-var %s=10", v.Name)
	case v.kind == cty.Bool:
		return fmt.Sprintf("-var %s=true", v.Name)
	case v.kind.IsMapType(), v.kind.IsObjectType():
		return fmt.Sprintf("-var '%s={ name = %s }'", v.Name, element(v.kind))
	case v.kind.IsListType(), v.kind.IsSetType(), v.kind.IsTupleType():
		return fmt.Sprintf("-var '%s=[%s]'", v.Name, element(v.kind))
	default:
		return fmt.Sprintf("-var %s=VALUE", v.Name)
	}
}

// element is an example of what is in a list or a map.
func element(kind cty.Type) string {
	if !kind.IsCollectionType() || kind.ElementType() == cty.String {
		return `"text"`
	}
	return "10"
}
