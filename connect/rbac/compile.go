package rbac

import (
	"errors"
	"fmt"

	"github.com/serai-net/serai/connect/match"
	"github.com/serai-net/serai/connect/mesh"
)

// compiler notes whether something asks about the request.
type compiler struct {
	asksRequest bool
}

func compilePolicy(in *mesh.IntentionPolicy) (policy, error) {
	p := policy{name: in.Name}
	var permissions, principals compiler
	list, err := permissions.permissions(in.Permissions)
	if err != nil {
		return p, err
	}
	p.permissions, p.permissionsAskRequest = list, permissions.asksRequest
	if list, err = principals.principals(in.Principals); err != nil {
		return p, err
	}
	p.principals, p.principalsAskRequest = list, principals.asksRequest
	return p, nil
}

func (c *compiler) permissions(in []mesh.Permission) ([]condition, error) {
	if len(in) == 0 {
		return nil, errors.New("empty list of permissions")
	}
	var out []condition
	for i := range in {
		compiled, err := c.permission(&in[i])
		if err != nil {
			return nil, fmt.Errorf("permission: %w", err)
		}
		out = append(out, compiled)
	}
	return out, nil
}

func (c *compiler) permission(in *mesh.Permission) (condition, error) {
	switch {
	case in.Any:
		return always{}, nil
	case in.And != nil:
		list, err := c.permissions(in.And)
		return allOf(list), err
	case in.Or != nil:
		list, err := c.permissions(in.Or)
		return anyOf(list), err
	case in.Not != nil:
		other, err := c.permission(in.Not)
		return not{other}, err
	case in.Path != nil:
		c.asksRequest = true
		value, err := match.String(*in.Path)
		return path{value}, err
	case in.Header != nil:
		return c.header(in.Header)
	case in.Metadata != nil:
		return c.metadata(in.Metadata)
	default:
		return connection(in)
	}
}

// connection are the permissions that ask about the connection.
func connection(in *mesh.Permission) (condition, error) {
	switch {
	case in.Destination != nil:
		value, err := prefix(*in.Destination)
		return destination{value}, err
	case in.Ports != nil:
		return ports{*in.Ports}, nil
	case in.ServerName != nil:
		value, err := match.String(*in.ServerName)
		return serverName{value}, err
	default:
		return nil, errors.New("nothing is asked for")
	}
}

func (c *compiler) principals(in []mesh.Principal) ([]condition, error) {
	if len(in) == 0 {
		return nil, errors.New("empty list of principals")
	}
	var out []condition
	for i := range in {
		compiled, err := c.principal(&in[i])
		if err != nil {
			return nil, fmt.Errorf("principal: %w", err)
		}
		out = append(out, compiled)
	}
	return out, nil
}

func (c *compiler) principal(in *mesh.Principal) (condition, error) {
	switch {
	case in.Any:
		return always{}, nil
	case in.And != nil:
		list, err := c.principals(in.And)
		return allOf(list), err
	case in.Or != nil:
		list, err := c.principals(in.Or)
		return anyOf(list), err
	case in.Not != nil:
		other, err := c.principal(in.Not)
		return not{other}, err
	case in.Name != nil:
		value, err := match.String(*in.Name)
		return name{value}, err
	case in.Authenticated:
		return authenticated{}, nil
	case in.Header != nil:
		return c.header(in.Header)
	case in.Metadata != nil:
		return c.metadata(in.Metadata)
	case in.Path != nil:
		c.asksRequest = true
		value, err := match.String(*in.Path)
		return path{value}, err
	case in.Source != nil:
		value, err := prefix(*in.Source)
		return source{value}, err
	case in.Direct != nil:
		value, err := prefix(*in.Direct)
		return direct{value}, err
	case in.Remote != nil:
		value, err := prefix(*in.Remote)
		return remote{value}, err
	default:
		return nil, errors.New("nobody is named")
	}
}

func (c *compiler) header(in *mesh.HeaderMatch) (condition, error) {
	c.asksRequest = true
	value, err := match.Header(*in)
	return header{value}, err
}

func (c *compiler) metadata(in *mesh.MetadataMatch) (condition, error) {
	c.asksRequest = true
	value, err := match.Metadata(in.Value)
	return &metadata{filter: in.Filter, path: in.Path, value: value, invert: in.Invert}, err
}
