package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// demo shows a new user what the service does, with requests to a running one. Its
// argument is the URL of the service; by default it is that of make run.
func demo(ctx context.Context, p *project, args []string) error {
	if len(args) > 1 {
		return errors.New("usage: go run ./local demo [URL]")
	}
	base, err := p.baseURL(strings.Join(args, ""))
	if err != nil {
		return err
	}
	s := &story{
		ctx:  ctx,
		base: base,
		client: &http.Client{
			Timeout:       time.Minute, // longer than any gateway waits
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		out: p.stdout,
	}
	s.tell()
	if err := s.cleanUp(); err != nil {
		return errors.Join(s.err, err)
	}
	return s.err
}

// baseURL returns the URL of a service without a slash at the end; if the text is empty, that
// of make run.
func (p *project) baseURL(text string) (string, error) {
	if text == "" {
		var err error
		if text, err = p.serviceURL(); err != nil {
			return "", err
		}
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", errors.New("the URL of the service must be like https://host") // it may hold a password
	}
	return strings.TrimSuffix(u.String(), "/"), nil
}

// serviceURL returns the URL of the service that make run serves on the data
// folder, or has served last.
func (p *project) serviceURL() (string, error) {
	o, err := p.owner()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return cmp.Or(o.URL, "http://"+net.JoinHostPort(p.host, p.port())), nil
}

// story is a sequence of requests, each with its explanation, that one organization
// sends. After the first answer that is not as expected, step does nothing.
type story struct {
	ctx    context.Context // its end stops the story before the next request
	base   string          // URL
	client *http.Client
	out    io.Writer
	number int // of the step
	err    error

	email     string
	passwords []string // that the admin may have; made up for the story, so it prints them
	exists    bool     // the organization may exist
	confirmed bool     // it existed and nobody has tried to delete it
}

// body is a JSON object.
type body = map[string]string

func (s *story) tell() {
	word := strings.ToLower(rand.Text()[:8])
	name, spelling, renamed := "Demo "+word+" Ltd", "DEMO, "+word+" ltd.", "Demo "+word+" Group"
	s.email = "demo-" + word + "@example.com"
	old, password := rand.Text(), rand.Text()
	s.passwords = []string{old}

	s.exists = true
	s.step("An organization signs up. It gets an admin, and a collection of its own for its data.",
		201, "POST", "/org/create", "", body{"organization_name": name, "email": s.email, "password": old})
	s.confirmed = s.err == nil
	s.step("The name is taken, in any spelling that makes the same name of a collection.",
		409, "POST", "/org/create", "", body{"organization_name": spelling, "email": "other-" + s.email, "password": old})
	s.step("A wrong body is refused, and the answer lists every field that is wrong.",
		422, "POST", "/org/create", "", body{"organization_name": "", "email": "nobody", "password": "short"})
	login := s.step("The admin logs in. The access token is for the requests of an admin, the refresh token for new tokens.",
		200, "POST", "/admin/login", "", body{"email": s.email, "password": old})
	token := login["access_token"]
	s.step("Whose token is it?", 200, "GET", "/admin/me", token, nil)
	s.step("Anybody can find an organization by its name, in any spelling.", 200, "GET", find(spelling), "", nil)
	s.step("The admin renames the organization. Its collection is renamed with all its documents.",
		200, "PUT", "/org/update", token, body{"organization_name": renamed})
	s.step("The token is still valid: it holds the id of the organization and not its name.", 200, "GET", "/admin/me", token, nil)
	s.step("Nobody has the old name any more.", 404, "GET", find(name), "", nil)

	s.passwords = []string{password, old}
	s.step("The admin changes the password, for which the current one is needed.",
		200, "PUT", "/org/update", token, body{"password": password, "current_password": old})
	s.step("That has revoked all tokens.", 401, "GET", "/admin/me", token, nil)
	login = s.step("The admin logs in with the new password.", 200, "POST", "/admin/login", "", body{"email": s.email, "password": password})
	refresh := body{"refresh_token": login["refresh_token"]}
	s.step("A refresh token is exchanged for new tokens.", 200, "POST", "/admin/refresh", "", refresh)
	s.step("It is good for one use. A second one may be that of a thief, so it ends the login.", 401, "POST", "/admin/refresh", "", refresh)

	login = s.step("The admin logs in again,", 200, "POST", "/admin/login", "", body{"email": s.email, "password": password})
	s.step("and logs out.", 204, "POST", "/admin/logout", "", body{"refresh_token": login["refresh_token"]})
	s.step("That has revoked the tokens of this login.", 401, "GET", "/admin/me", login["access_token"], nil)

	login = s.step("The admin logs in once more,", 200, "POST", "/admin/login", "", body{"email": s.email, "password": password})
	s.confirmed = s.confirmed && s.err != nil
	s.step("and deletes the organization with all that belongs to it. The name in the query is optional, against mistakes.",
		200, "DELETE", "/org/delete?organization_name="+url.QueryEscape(renamed), login["access_token"], nil)
	s.exists = s.exists && s.err != nil
	s.step("It is gone.", 404, "GET", find(renamed), "", nil)
}

// find returns the target of the request for the organization of that name.
func find(name string) string { return "/org/get?organization_name=" + url.QueryEscape(name) }

// step prints the explanation, the request and the answer, and returns the fields
// of the answer. The story ends unless the answer has the status.
func (s *story) step(why string, status int, method, target, token string, content body) body {
	if s.err == nil && s.ctx.Err() != nil {
		s.err = errors.New("interrupted")
	}
	if s.err != nil {
		return nil
	}
	s.number++
	fmt.Fprintf(s.out, "\n%d. %s\n%s\n", s.number, why, printable(s.curl(method, target, token, content)))
	got, answer, err := s.send(method, target, token, content)
	switch {
	case err != nil:
		if failed, ok := errors.AsType[*net.OpError](err); ok && failed.Op == "dial" && s.number == 1 {
			s.exists = false // nothing was sent
		}
		s.err = fmt.Errorf("no answer from %s (%w): is the service there? make run starts it", s.base, err)
		return nil
	case got != status:
		s.err = fmt.Errorf("step %d: %s %s was answered with %d and not with %d", s.number, method, target, got, status)
		if s.number == 1 {
			s.exists = got >= 500
			s.err = fmt.Errorf("%w: is %s the service? make run starts it", s.err, s.base)
		}
	}
	fmt.Fprintf(s.out, "%d %s\n", got, printable(strings.Join(strings.Fields(abbreviated(answer)), " ")))
	fields := body{}
	json.Unmarshal([]byte(answer), &fields) // all that the story needs is text
	return fields
}

// curl returns the request as a command. Tokens are abbreviated.
func (s *story) curl(method, target, token string, content body) string {
	var b strings.Builder
	b.WriteString("curl")
	if method != "GET" && method != "POST" {
		b.WriteString(" -X " + method)
	}
	b.WriteString(" " + quoted(s.base+target))
	if token != "" {
		b.WriteString(" -H " + quoted("authorization: Bearer "+abbreviate(token)))
	}
	if content != nil {
		b.WriteString(" -H 'content-type: application/json' -d " + quoted(abbreviated(string(encode(content)))))
	}
	return b.String()
}

// send sends a request, also after an interrupt: the service might have begun with
// it.
func (s *story) send(method, target, token string, content body) (status int, answer string, err error) {
	r, err := http.NewRequestWithContext(context.WithoutCancel(s.ctx), method, s.base+target, nil)
	if err != nil {
		return 0, "", err
	}
	if content != nil {
		encoded := encode(content)
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(encoded)), int64(len(encoded))
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := s.client.Do(r)
	if failed, ok := errors.AsType[*url.Error](err); ok {
		err = failed.Err // without the method and the URL
	}
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	return response.StatusCode, strings.TrimSpace(string(data)), err
}

// cleanUp deletes the organization if the story has not.
func (s *story) cleanUp() (err error) {
	if !s.exists || s.number == 0 {
		return nil
	}
	for attempt := range 3 {
		time.Sleep(time.Duration(attempt) * time.Second)
		if err = s.delete(); err == nil {
			fmt.Fprintln(s.out, "\nThe organization was deleted: nothing is left behind.")
			return nil
		}
	}
	return fmt.Errorf("the organization of %s is perhaps still there: %w", s.email, err)
}

// delete deletes the organization, if it exists, with any of the passwords.
func (s *story) delete() error {
	for _, password := range s.passwords {
		status, answer, err := s.send("POST", "/admin/login", "", body{"email": s.email, "password": password})
		if err != nil {
			return err
		}
		switch fields := (body{}); status {
		case 401:
		case 200:
			json.Unmarshal([]byte(answer), &fields)
			if status, _, err = s.send("DELETE", "/org/delete", fields["access_token"], nil); err == nil && status != 200 {
				err = fmt.Errorf("its deletion was answered with %d", status)
			}
			return err
		default:
			return fmt.Errorf("the login was answered with %d", status)
		}
	}
	if s.confirmed {
		return errors.New("its passwords are refused")
	}
	return nil
}

func encode(content body) []byte {
	encoded, err := json.Marshal(content)
	if err != nil {
		panic(err) // text is always JSON
	}
	return encoded
}

// quoted returns s as one word of a shell.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

var tokenField = regexp.MustCompile(`("[a-z_]+_token"\s*:\s*")([^"]*)`)

// abbreviated returns the JSON with its tokens abbreviated.
func abbreviated(text string) string {
	return tokenField.ReplaceAllStringFunc(text, func(field string) string {
		m := tokenField.FindStringSubmatch(field)
		return m[1] + abbreviate(m[2])
	})
}

// abbreviate returns the ends of a token, which tell it from others.
func abbreviate(token string) string {
	return fmt.Sprintf("%.4s…%s", token, token[max(0, len(token)-4):])
}
