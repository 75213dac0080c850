package gateway

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Values of CloudFormation's pseudo parameters on this machine.
const (
	account   = "123456789012"
	partition = "aws"
	urlSuffix = "amazonaws.com"
	stackName = "local"
)

// keys returns the keys of a mapping in their order. A nil node has none.
func (r *reader) keys(node *yaml.Node) []string {
	node = r.resolve(node)
	if node == nil {
		return nil
	}
	if node.Kind != yaml.MappingNode {
		r.refuse(node, "expected a mapping")
	}
	var keys []string
	for i := 0; i < len(node.Content); i += 2 {
		if slices.Contains(keys, node.Content[i].Value) {
			r.refuse(node.Content[i], "%s stands here twice", node.Content[i].Value)
		}
		keys = append(keys, node.Content[i].Value)
	}
	return keys
}

// fields returns the values of a mapping by key. A nil node has none.
func (r *reader) fields(node *yaml.Node) map[string]*yaml.Node {
	fields := map[string]*yaml.Node{}
	for i, key := range r.keys(node) {
		value := r.resolve(node).Content[2*i+1]
		if ref, _ := intrinsic(value); ref == "Ref" && reference(value).Value == "AWS::NoValue" {
			continue
		}
		fields[key] = value
	}
	return fields
}

// need returns a value of a mapping, which must have the key.
func (r *reader) need(node *yaml.Node, key string) *yaml.Node {
	value := r.fields(node)[key]
	if value == nil {
		r.refuse(node, "%s is missing", key)
	}
	return value
}

// only refuses a mapping that has other keys.
func (r *reader) only(node *yaml.Node, keys ...string) {
	for i, key := range r.keys(node) {
		if !slices.Contains(keys, key) {
			r.refuse(r.resolve(node).Content[2*i], "%s is not understood here", key)
		}
	}
}

// string returns the text of a scalar.
func (r *reader) string(node *yaml.Node) string {
	v := r.resolve(node)
	if v.Kind != yaml.ScalarNode {
		r.refuse(node, "expected a single value")
	}
	return v.Value
}

// strings returns the texts of a list. A nil node has none.
func (r *reader) strings(node *yaml.Node) []string {
	v := r.resolve(node)
	if v == nil {
		return nil
	}
	if v.Kind != yaml.SequenceNode {
		r.refuse(node, "expected a list")
	}
	var list []string
	for _, item := range v.Content {
		list = append(list, r.string(item))
	}
	return list
}

// int returns a number, which must be from low to high.
func (r *reader) int(node *yaml.Node, low, high int) int {
	n, err := strconv.Atoi(r.string(node))
	if err != nil || n < low || n > high {
		r.refuse(node, "expected a whole number from %d to %d, not %q", low, high, r.string(node))
	}
	return n
}

// bool returns a boolean. A nil node is false.
func (r *reader) bool(node *yaml.Node) bool {
	if node == nil {
		return false
	}
	b, err := strconv.ParseBool(r.string(node))
	if err != nil {
		r.refuse(node, "expected true or false, not %q", r.string(node))
	}
	return b
}

// resolve returns the value of an intrinsic function, and any other node as it
// is.
func (r *reader) resolve(node *yaml.Node) *yaml.Node {
	if node == nil {
		return nil
	}
	if node.Kind == yaml.AliasNode {
		return r.resolve(node.Alias)
	}
	name, known := intrinsic(node)
	if name == "" {
		return node
	}
	argument := reference(node)
	switch {
	case !known:
		r.refuse(node, "%s is not understood here", name)
	case name == "Ref" && argument.Kind == yaml.ScalarNode:
		return r.ref(node, argument.Value)
	case name == "GetAtt" && argument.Kind == yaml.ScalarNode:
		id, attribute, _ := strings.Cut(argument.Value, ".")
		return r.attribute(node, id, attribute)
	case name == "GetAtt" && argument.Kind == yaml.SequenceNode && len(argument.Content) == 2:
		return r.attribute(node, r.string(argument.Content[0]), r.string(argument.Content[1]))
	case name == "Sub" && argument.Kind == yaml.ScalarNode:
		return r.substitute(node, argument.Value, nil)
	case name == "Sub" && argument.Kind == yaml.SequenceNode && len(argument.Content) == 2:
		return r.substitute(node, r.string(argument.Content[0]), r.fields(argument.Content[1]))
	case name == "If" && argument.Kind == yaml.SequenceNode && len(argument.Content) == 3:
		if r.condition(argument.Content[0], argument.Content[0].Value) {
			return r.resolve(argument.Content[1])
		}
		return r.resolve(argument.Content[2])
	}
	r.refuse(node, "%s can't take this argument", name)
	return nil
}

// intrinsic returns the name of the intrinsic function that a node calls, in the
// short form (!Sub) or the long one (Fn::Sub), and whether resolve knows it. The
// name is "" if the node is no such call.
func intrinsic(node *yaml.Node) (name string, known bool) {
	switch {
	case strings.HasPrefix(node.Tag, "!") && !strings.HasPrefix(node.Tag, "!!"):
		name = node.Tag[1:]
	case node.Kind == yaml.MappingNode && len(node.Content) == 2 &&
		(node.Content[0].Value == "Ref" || strings.HasPrefix(node.Content[0].Value, "Fn::")):
		name = strings.TrimPrefix(node.Content[0].Value, "Fn::")
	}
	return name, name == "Ref" || name == "Sub" || name == "GetAtt" || name == "If"
}

// condition returns the value of a condition of the template.
func (r *reader) condition(at *yaml.Node, name string) bool {
	node := r.conditions[name]
	if node == nil {
		r.refuse(at, "there is no condition %s", name)
	}
	return r.holds(node)
}

// holds evaluates the expression of a condition: Equals, or Not with another
// expression.
func (r *reader) holds(node *yaml.Node) bool {
	function, _ := intrinsic(node)
	arguments := reference(node).Content
	switch {
	case function == "Equals" && len(arguments) == 2:
		return r.string(arguments[0]) == r.string(arguments[1])
	case function == "Not" && len(arguments) == 1:
		return !r.holds(arguments[0])
	}
	r.refuse(node, "%s is not understood in a condition here", function)
	return false
}

// reference returns the argument of the intrinsic function that a node calls.
func reference(node *yaml.Node) *yaml.Node {
	if strings.HasPrefix(node.Tag, "!") && !strings.HasPrefix(node.Tag, "!!") {
		return node
	}
	return node.Content[1]
}

// ref returns the value of !Ref name.
func (r *reader) ref(at *yaml.Node, name string) *yaml.Node {
	pseudo := map[string]string{
		"AWS::AccountId": account,
		"AWS::Partition": partition,
		"AWS::Region":    r.region,
		"AWS::StackId":   "arn:" + partition + ":cloudformation:" + r.region + ":" + account + ":stack/" + stackName + "/local",
		"AWS::StackName": stackName,
		"AWS::URLSuffix": urlSuffix,
	}
	if v, ok := pseudo[name]; ok {
		return text(at, v)
	}
	if v, ok := r.parameters[name]; ok {
		if v == nil {
			r.refuse(at, "the parameter %s has no default and was given no value", name)
		}
		return v
	}
	if r.resources[name] == nil {
		r.refuse(at, "%s is neither a parameter nor a resource", name)
	}
	return text(at, name)
}

// attribute returns the value of !GetAtt id.attribute.
func (r *reader) attribute(at *yaml.Node, id, attribute string) *yaml.Node {
	if r.resources[id] == nil {
		r.refuse(at, "there is no resource %s", id)
	}
	if attribute == "Arn" && r.string(r.need(r.resources[id], "Type")) == "AWS::Serverless::Function" {
		return text(at, functionARN(r.region, id))
	}
	return text(at, id+"."+attribute)
}

// subVariable is ${name} or, for the text "${name}" itself, ${!name}.
var subVariable = regexp.MustCompile(`\$\{(!?)([^}]+)\}`)

// substitute returns the value of !Sub s. The variables in own are those of the
// call itself.
func (r *reader) substitute(at *yaml.Node, s string, own map[string]*yaml.Node) *yaml.Node {
	return text(at, subVariable.ReplaceAllStringFunc(s, func(match string) string {
		m := subVariable.FindStringSubmatch(match)
		if m[1] == "!" { // ${!Literal}
			return "${" + m[2] + "}"
		}
		if v := own[m[2]]; v != nil {
			return r.string(v)
		}
		if id, attribute, ok := strings.Cut(m[2], "."); ok {
			return r.attribute(at, id, attribute).Value
		}
		return r.string(r.ref(at, m[2]))
	}))
}

// functionARN returns the ARN of the function with the logical ID.
func functionARN(region, id string) string {
	return "arn:" + partition + ":lambda:" + region + ":" + account + ":function:" + id
}

// text returns a string node with the line of the node at.
func text(at *yaml.Node, value string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value, Line: at.Line}
}

// commaList returns the list that a value of a CommaDelimitedList stands for.
func commaList(value *yaml.Node) *yaml.Node {
	list := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Line: value.Line}
	for item := range strings.SplitSeq(value.Value, ",") {
		list.Content = append(list.Content, text(value, strings.TrimSpace(item)))
	}
	return list
}

// first returns the first node that is not nil, or nil.
func first(nodes ...*yaml.Node) *yaml.Node {
	for _, n := range nodes {
		if n != nil {
			return n
		}
	}
	return nil
}
