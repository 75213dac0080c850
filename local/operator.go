package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const operatorUsage = `usage: make operator [URL=https://…] DO='list [PREFIX]' or 'deleted [PREFIX]'
       make operator DO='show ID'
       make operator DO='suspend ID REASON' or 'reactivate ID REASON'
       make operator DO='rename ID "NEW NAME" REASON'
       make operator DO='restore ID REASON' or 'restore-as ID "NEW NAME" REASON'
       make operator DO='purge ID REASON'
       make operator DO='invite EMAIL NAME'`

// mostListed is how many organizations the operator's list has at most.
const mostListed = 1000

// operator does what an operator wants from a terminal, by the service's routes for that.
// Its arguments are an action and what it needs.
func operator(ctx context.Context, p *project, args []string) error {
	base, err := p.baseURL(p.url)
	if err != nil {
		return err
	}
	o := &operatorClient{ctx: ctx, base: base + "/operator/organizations", env: p.env, client: &http.Client{Timeout: time.Minute}}
	if p.url == "" {
		token, err := os.ReadFile(filepath.Join(p.data, "operator_token"))
		if err != nil {
			return err
		}
		o.token = strings.TrimSpace(string(token))
	}
	if len(args) == 0 {
		if args, err = words(p.env["DO"]); err != nil {
			return err
		}
	}
	action, id, rest := "list", "", ""
	if len(args) > 0 {
		action = args[0]
	}
	if len(args) > 1 {
		id, rest = args[1], strings.Join(args[2:], " ")
	}
	at := "/" + url.PathEscape(id)
	switch {
	case (action == "list" || action == "deleted") && rest == "":
		return o.list(p.stdout, id, action == "deleted")
	case action == "show" && id != "" && rest == "":
		return o.show(p.stdout, "GET", at, nil)
	case slices.Contains([]string{"suspend", "reactivate", "purge", "restore"}, action) && rest != "":
		return o.show(p.stdout, "POST", at+"/"+action, map[string]string{"reason": rest})
	case (action == "rename" || action == "restore-as") && len(args) > 3:
		action = strings.TrimSuffix(action, "-as")
		return o.show(p.stdout, "POST", at+"/"+action, map[string]string{"organization_name": args[2], "reason": strings.Join(args[3:], " ")})
	case action == "invite" && rest != "":
		err := o.call("POST", "", map[string]string{"email": id, "organization_name": rest}, nil)
		if err == nil {
			fmt.Fprintf(p.stdout, "a link to set up %s is mailed to %s\n", printable(rest), printable(id))
		}
		return err
	}
	return errors.New(operatorUsage)
}

// words returns the words of a text, of which those in double quotes are one.
func words(text string) ([]string, error) {
	r := csv.NewReader(strings.NewReader(text))
	r.Comma, r.LazyQuotes = ' ', true
	line, err := r.Read()
	if err == io.EOF {
		return nil, nil
	}
	return slices.DeleteFunc(line, func(word string) bool { return word == "" }), err
}

// operatorClient calls the operator's routes of a service.
type operatorClient struct {
	ctx    context.Context
	base   string // URL of the organizations
	token  string // of make run; empty: requests are signed with the AWS credentials of env
	env    map[string]string
	client *http.Client
}

// operated is an organization in an answer.
type operated struct {
	ID         string `json:"id"`
	Name       string `json:"organization_name"`
	Collection string `json:"collection_name"`
	Database   string `json:"database_name"`
	Status     string `json:"status"`
	CreatedAt  string `json:"created_at"`
	Count      int    `json:"member_count"`
	Operation  *struct {
		Kind      string `json:"kind"`
		StartedAt string `json:"started_at"`
	} `json:"operation"`
	Deletion *struct {
		At    string `json:"at"`
		By    string `json:"admin_id"`
		Until string `json:"restorable_until"`
	} `json:"deletion"`
	Receipt *struct {
		DeletedAt string `json:"deleted_at"`
		By        string `json:"admin_id"`
		PurgedAt  string `json:"purged_at"`
		PurgedBy  string `json:"purged_by"`
		Documents int64  `json:"document_count"`
	} `json:"receipt"`
	Members []struct {
		Email string `json:"email"`
		Role  string `json:"role"`
		Since string `json:"since"`
	} `json:"members"`
	History []struct {
		Act    string `json:"act"`
		By     string `json:"by"`
		Reason string `json:"reason"`
		At     string `json:"at"`
	} `json:"history"`
}

// list prints a table of the organizations whose names begin with the prefix, or only of those
// that can be restored.
func (o *operatorClient) list(out io.Writer, prefix string, deleted bool) error {
	rows := [][]string{{"NAME", "STATUS", "MEMBERS", "CREATED", "ID"}}
	query := url.Values{"limit": {"100"}}
	if deleted {
		rows[0] = append(rows[0], "UNTIL")
		query.Set("status", "deleted")
	}
	if prefix != "" {
		query.Set("prefix", prefix)
	}
	more := true
	for more && len(rows) <= mostListed {
		var page struct {
			Organizations []operated `json:"organizations"`
			Next          string     `json:"next"`
		}
		if err := o.call("GET", "?"+query.Encode(), nil, &page); err != nil {
			return err
		}
		for _, found := range page.Organizations {
			row := []string{found.Name, found.Status, strconv.Itoa(found.Count), found.CreatedAt, found.ID}
			if d := found.Deletion; deleted && d != nil {
				row = append(row, d.Until)
			}
			rows = append(rows, row)
		}
		more = page.Next != ""
		query.Set("after", page.Next)
	}
	printTable(out, rows)
	if more {
		fmt.Fprintln(out, "and more: give a prefix of their names")
	}
	return nil
}

// show sends a request and prints the organization that it answers.
func (o *operatorClient) show(out io.Writer, method, target string, body any) error {
	var found operated
	if err := o.call(method, target, body, &found); err != nil {
		return err
	}
	rows := [][]string{{"status", found.Status}, {"id", found.ID}, {"created", found.CreatedAt}}
	if r := found.Receipt; r != nil {
		rows = append(rows, []string{"deleted", r.DeletedAt + " by " + r.By}, []string{"for good", strings.TrimSuffix(r.PurgedAt+" by "+r.PurgedBy, " by ")},
			[]string{"had", fmt.Sprintf("%d members and %d documents", found.Count, r.Documents)})
	} else {
		rows = append([][]string{{"name", found.Name}}, append(rows, []string{"collection", found.Collection + " in " + found.Database})...)
	}
	if d := found.Deletion; d != nil {
		rows = append(rows, []string{"deleted", d.At + " by " + d.By + ", can be restored until " + d.Until})
	}
	if op := found.Operation; op != nil {
		rows = append(rows, []string{"under way", op.Kind + " since " + op.StartedAt})
	}
	for _, m := range found.Members {
		rows = append(rows, []string{"member", m.Email + ", " + m.Role + " since " + m.Since})
	}
	for _, a := range found.History {
		rows = append(rows, []string{"history", a.At + " " + a.Act + " by " + a.By + ": " + a.Reason})
	}
	printTable(out, rows)
	return nil
}

// call sends a request and decodes the answer into v, unless that is nil. Its error has what a
// problem says.
func (o *operatorClient) call(method, target string, body, v any) error {
	var content []byte
	if body != nil {
		var err error
		if content, err = json.Marshal(body); err != nil {
			return err
		}
	}
	r, err := http.NewRequestWithContext(o.ctx, method, o.base+target, bytes.NewReader(content))
	if err != nil {
		return err
	}
	if content != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if err := o.sign(r, content); err != nil {
		return err
	}
	response, err := o.client.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode >= 300 {
		var problem struct{ Detail, Message string }
		json.Unmarshal(answer, &problem) // what is no JSON says nothing
		return fmt.Errorf("%s: %s", response.Status, printable(problem.Detail+problem.Message))
	}
	if v == nil {
		return nil
	}
	return json.Unmarshal(answer, v)
}

// regionOf finds the region in the host of an API Gateway.
var regionOf = regexp.MustCompile(`\.execute-api\.([a-z0-9-]+)\.amazonaws\.com`)

// sign adds the token of make run, or a signature with the credentials in the environment (AWS
// Signature Version 4).
func (o *operatorClient) sign(r *http.Request, content []byte) error {
	if o.token != "" {
		r.Header.Set("Authorization", "Bearer "+o.token)
		return nil
	}
	region := o.env["AWS_REGION"]
	if m := regionOf.FindStringSubmatch(r.URL.Host); m != nil {
		region = m[1]
	}
	credentials := aws.Credentials{AccessKeyID: o.env["AWS_ACCESS_KEY_ID"], SecretAccessKey: o.env["AWS_SECRET_ACCESS_KEY"], SessionToken: o.env["AWS_SESSION_TOKEN"]}
	if region == "" || !credentials.HasKeys() {
		return errors.New("set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, where the URL has no region, AWS_REGION: aws configure export-credentials --format env prints them")
	}
	hash := sha256.Sum256(content)
	return v4.NewSigner().SignHTTP(o.ctx, credentials, r, hex.EncodeToString(hash[:]), "execute-api", region, time.Now())
}
