package kernel

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// keys are the fields of a result that the published SDKs have for MIME types.
// The last two come from the start-up files of our Python kernel.
var keys = map[string]string{
	"text/plain":                       "text",
	"text/html":                        "html",
	"text/markdown":                    "markdown",
	"image/svg+xml":                    "svg",
	"image/png":                        "png",
	"image/jpeg":                       "jpeg",
	"application/pdf":                  "pdf",
	"text/latex":                       "latex",
	"application/json":                 "json",
	"application/javascript":           "javascript",
	"application/vnd.atoll.chart+json": "chart",
	"application/vnd.atoll.data+json":  "data",
}

// maxForms bounds in how many forms a result comes.
const maxForms = 64

// result adds a result or a display from the content of its message.
func (o *output) result(main bool, content []byte) error {
	var bundle []byte
	if err := eachField(content, func(name string, value []byte) {
		if name == "data" {
			bundle = value
		}
	}); err != nil {
		return err
	}
	type form struct {
		mime  string
		value []byte
	}
	var forms []form
	if err := eachField(bundle, func(mime string, value []byte) {
		if len(forms) < maxForms {
			forms = append(forms, form{mime, value})
		}
	}); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil
	}
	o.stream = ""
	o.buffer = append(o.buffer, `{"type":"result","is_main_result":`...)
	o.buffer = strconv.AppendBool(o.buffer, main)
	var extra []form
	for _, f := range forms {
		key, known := keys[f.mime]
		if !known {
			// One SDK finds it here, the other below "extra".
			extra = append(extra, f)
			key = f.mime
		}
		o.field(key, f.value, f.mime == "text/plain")
	}
	if len(extra) > 0 {
		o.buffer = append(o.buffer, `,"extra":{`...)
		for i, f := range extra {
			if i > 0 {
				o.buffer = append(o.buffer, ',')
			}
			o.buffer = append(appendString(o.buffer, f.mime), ':')
			o.value(f.value)
		}
		o.buffer = append(o.buffer, '}')
	}
	o.buffer = append(o.buffer, "}\n"...)
	o.size = len(o.buffer)
	for _, part := range o.parts {
		o.size += len(part)
	}
	signal(o.ready)
	return nil
}

// field adds a field of a result; o.mu is held. Strings lose the quotation
// marks of their representation, as clients of E2B expect.
func (o *output) field(key string, value []byte, isText bool) {
	if key == "type" || key == "is_main_result" || key == "extra" {
		return // hostile MIME types
	}
	o.buffer = append(o.buffer, ',')
	o.buffer = append(appendString(o.buffer, key), ':')
	if raw, isString := inside(value); isText && isString && len(raw) >= 2 && raw[0] == '\'' && raw[len(raw)-1] == '\'' {
		o.buffer = append(o.buffer, '"')
		o.buffer = appendText(o.buffer, raw[1:len(raw)-1])
		o.buffer = append(o.buffer, '"')
		return
	}
	o.value(value)
}

// failure adds an error from the content of its message.
func (o *output) failure(content []byte) error {
	var name, value, traceback []byte
	if err := eachField(content, func(field string, v []byte) {
		switch field {
		case "ename":
			name = v
		case "evalue":
			value = v
		case "traceback":
			traceback = v
		}
	}); err != nil {
		return err
	}
	o.append(func(b []byte) []byte {
		b = append(b, `{"type":"error","name":`...)
		b = appendStringOr(b, name, "Error")
		b = append(b, `,"value":`...)
		b = appendStringOr(b, value, "")
		b = append(b, `,"traceback":"`...)
		b = appendLines(b, traceback)
		return append(b, "\"}\n"...)
	})
	return nil
}

func appendStringOr(b, value []byte, fallback string) []byte {
	raw, ok := inside(value)
	if !ok {
		return appendString(b, fallback)
	}
	b = append(b, '"')
	b = appendText(b, raw)
	return append(b, '"')
}

// appendLines appends an array of strings as lines of one string.
func appendLines(b, array []byte) []byte {
	first := true
	for i := 1; i < len(array); {
		start := bytes.IndexByte(array[i:], '"')
		if start < 0 {
			break
		}
		end := stringEnd(array, i+start)
		if end < 0 {
			break
		}
		if !first {
			b = append(b, `\n`...)
		}
		first = false
		b = appendText(b, array[i+start+1:end-1])
		i = end
	}
	return b
}

// streamText returns which stream a text belongs to, and the text's inside.
func streamText(content []byte) (stream string, raw []byte, err error) {
	err = eachField(content, func(name string, value []byte) {
		v, isString := inside(value)
		switch {
		case !isString:
		case name == "name":
			stream = string(v)
		case name == "text":
			raw = v
		}
	})
	if err == nil && stream != "stdout" && stream != "stderr" {
		err = errContent
	}
	return stream, raw, err
}

// executionCount returns the number in the content of execute_input and
// execute_reply.
func executionCount(content []byte) (n int64, ok bool) {
	err := eachField(content, func(name string, value []byte) {
		if name == "execution_count" {
			var err error
			n, err = strconv.ParseInt(string(value), 10, 64)
			ok = err == nil
		}
	})
	return n, ok && err == nil
}

// stringField returns one short string of a content.
func stringField(content []byte, field string) string {
	var s string
	_ = eachField(content, func(name string, value []byte) {
		if name == field && len(value) < 1<<10 {
			_ = json.Unmarshal(value, &s) // not a string: s stays empty
		}
	})
	return s
}
