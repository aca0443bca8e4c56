package command

import (
	"net/url"
	"strconv"
)

// verb splits a group's arguments.
func verb(group string, args []string) (string, []string, error) {
	if len(args) == 0 {
		return "", nil, wrong("%s: say what to do with them", group)
	}
	return args[0], args[1:], nil
}

// query is a path with options of the command as its parameters.
func (f *flags) query(path string, options ...string) string {
	values := url.Values{}
	for _, option := range options {
		if f.has(option) {
			values.Set(option, f.last(option))
		}
	}
	if len(values) == 0 {
		return path
	}
	return path + "?" + values.Encode()
}

func (c *client) services(args []string) error {
	do, args, err := verb("services", args)
	if err != nil {
		return err
	}
	options := map[string]bool{}
	switch do {
	case "create", "put":
		options = map[string]bool{"cmd": true, "args": true, "env": true, "dir": true, "needs": true, "http-port": true, "duration": true, "no-stream": false}
	case "start", "restart":
		options = map[string]bool{"duration": true, "no-stream": false}
	case "stop":
		options = map[string]bool{"timeout": true, "duration": true, "no-stream": false}
	case "logs":
		options = map[string]bool{"lines": true, "duration": true}
	case "signal":
		options = map[string]bool{"signal": true}
	}
	f, err := parse(args, options)
	if err != nil {
		return err
	}
	switch do {
	case "list":
		return c.show("GET", "/v1/services", nil)
	case "signal":
		return c.signal(f)
	}
	name, err := f.name("service")
	if err != nil {
		return err
	}
	path := "/v1/services/" + url.PathEscape(name)
	quiet := f.has("no-stream")
	if quiet && do != "stop" {
		f.values["duration"] = []string{"0"}
	}
	switch do {
	case "get":
		return c.show("GET", path, nil)
	case "delete":
		return c.show("DELETE", path, nil)
	case "create", "put":
		definition, err := f.definition()
		if err != nil {
			return err
		}
		return c.stream("PUT", f.query(path, "duration"), definition, quiet)
	case "start", "restart":
		return c.stream("POST", f.query(path+"/"+do, "duration"), nil, quiet)
	case "stop":
		return c.stream("POST", f.query(path+"/stop", "timeout"), nil, quiet)
	case "logs":
		return c.stream("GET", f.query(path+"/logs", "lines", "duration"), nil, false)
	}
	return wrong("services: there is no %q", do)
}

// definition is the service that options describe.
func (f *flags) definition() (map[string]any, error) {
	if !f.has("cmd") {
		return nil, wrong("say with --cmd which program the service runs")
	}
	env, err := f.pairs("env")
	if err != nil {
		return nil, err
	}
	d := map[string]any{"cmd": f.last("cmd"), "args": f.list("args"), "env": env, "dir": f.last("dir"), "needs": f.list("needs")}
	if f.has("http-port") {
		port, err := strconv.Atoi(f.last("http-port"))
		if err != nil {
			return nil, wrong("--http-port: %q is no number", f.last("http-port"))
		}
		d["http_port"] = port
	}
	return d, nil
}

// signal takes the signal as an option or behind the name.
func (c *client) signal(f *flags) error {
	signal := f.last("signal")
	if signal == "" && len(f.names) == 2 {
		signal, f.names = f.names[1], f.names[:1]
	}
	name, err := f.name("service")
	if err != nil {
		return err
	}
	if signal == "" {
		return wrong("say which signal to send, as in: sprite-env services signal %s HUP", name)
	}
	return c.show("POST", "/v1/services/signal", map[string]string{"name": name, "signal": signal})
}

func (c *client) checkpoints(args []string) error {
	do, args, err := verb("checkpoints", args)
	if err != nil {
		return err
	}
	options := map[string]bool{}
	switch do {
	case "list":
		options = map[string]bool{"include-auto": false, "history": true}
	case "create":
		options = map[string]bool{"comment": true}
	}
	f, err := parse(args, options)
	if err != nil {
		return err
	}
	switch do {
	case "list":
		path := f.query("/v1/checkpoints", "history")
		if f.has("include-auto") {
			values := url.Values{"includeAuto": {"true"}}
			if f.has("history") {
				values.Set("history", f.last("history"))
			}
			path = "/v1/checkpoints?" + values.Encode()
		}
		return c.show("GET", path, nil)
	case "create":
		body := map[string]string{}
		if f.has("comment") {
			body["comment"] = f.last("comment")
		}
		return c.stream("POST", "/v1/checkpoint", body, false)
	}
	id, err := f.name("checkpoint")
	if err != nil {
		return err
	}
	path := "/v1/checkpoints/" + url.PathEscape(id)
	switch do {
	case "get", "info":
		return c.show("GET", path, nil)
	case "restore":
		return c.stream("POST", path+"/restore", nil, false)
	case "delete":
		return c.show("DELETE", path, nil)
	}
	return wrong("checkpoints: there is no %q", do)
}

func (c *client) tasks(args []string) error {
	do, args, err := verb("tasks", args)
	if err != nil {
		return err
	}
	f, err := parse(args, map[string]bool{"expire": true})
	if err != nil {
		return err
	}
	if do == "list" {
		return c.show("GET", "/v1/tasks", nil)
	}
	name, err := f.name("task")
	if err != nil {
		return err
	}
	path, body := "/v1/tasks/"+url.PathEscape(name), map[string]string{"name": name}
	if f.has("expire") {
		body["expire"] = f.last("expire")
	}
	switch do {
	case "get":
		return c.show("GET", path, nil)
	case "create":
		return c.show("POST", "/v1/tasks", body)
	case "refresh":
		return c.show("PUT", path, body)
	case "delete":
		return c.show("DELETE", path, nil)
	}
	return wrong("tasks: there is no %q", do)
}
