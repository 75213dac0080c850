//go:build browser

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// TestBrowser reads the pages and uses the service as a person does, with
// Chromium. It stores a picture of each page in the folder of artifacts.
func TestBrowser(t *testing.T) {
	t.Run("docs", func(t *testing.T) {
		b := newBrowser(t, "/docs")
		b.do(chromedp.WaitVisible(chromedp.CSS(".opblock")))
		b.picture("docs.png")

		o := newRegistration()
		b.try("me", "", "", 401)
		b.try("create", "", asJSON(o), 201)
		b.try("create", "", asJSON(o), 409)
		b.try("login", "", asJSON(object{"email": o.Email, "password": o.Password}), 200) // authorizes the page
		b.try("me", "", "", 200)
		b.try("get", o.Name, "", 200)
		b.try("update", "", asJSON(object{"organization_name": o.Name + " Ltd"}), 200)

		// By hand: with the token of another login.
		tokens := newClient(t).login(o.Email, o.Password).want(t, 200)
		b.do(
			chromedp.Click(".auth-wrapper .authorize"),
			chromedp.Click(`//button[text()="Logout"]`),
			chromedp.WaitVisible("#auth-bearer-value"),
			chromedp.SendKeys("#auth-bearer-value", tokens.text("access_token")+kb.Enter),
			chromedp.Click(`//button[text()="Close"]`),
		)
		b.try("refresh", "", asJSON(object{"refresh_token": tokens.text("refresh_token")}), 200)
		other := newClient(t).login(o.Email, o.Password).want(t, 200)
		b.try("logout", "", asJSON(object{"refresh_token": other.text("refresh_token")}), 204)
		b.try("jwks", "", "", 200)
		b.try("health", "", "", 200)
		b.try("delete", "", "", 200)
		b.try("me", "", "", 401)
	})
	t.Run("redoc", func(t *testing.T) {
		b := newBrowser(t, "/redoc")
		b.do(chromedp.WaitVisible(`//h1[contains(., "Organization Management Service")]`), chromedp.WaitVisible(`[data-section-id]`))
		b.picture("redoc.png")
	})
	t.Run("mail", func(t *testing.T) {
		c := newClient(t)
		if own == nil {
			return // nobody reads the mails
		}
		o := newTenant(c)
		b := newBrowser(t, "/verify-email?ticket="+own.ticket(t, o.Email, "/verify-email", 1))
		b.do(chromedp.Click(`//button[text()="Confirm"]`), chromedp.WaitVisible(`//p[text()="Your email is confirmed."]`))
		if me := c.me(o.token).want(t, 200); me.object()["email_verified"] != true {
			t.Errorf("%v", me)
		}
		b.picture("mail.png")
		c.forgot(o.Email).want(t, 204)
		b.do(
			chromedp.Navigate(baseURL+"/reset-password?ticket="+own.ticket(t, o.Email, "/reset-password", 1)),
			chromedp.SendKeys("#password", "short"+kb.Enter),
			chromedp.WaitVisible(`//p[contains(., "must have at least 8 characters")]`),
			chromedp.SendKeys("#password", " is long"+kb.Enter),
			chromedp.WaitVisible(`//p[contains(., "You have a new password")]`),
		)
		mustLogin(c, o.Email, "short is long")
		c.invite(mustLogin(c, o.Email, "short is long"), "guest-"+o.Email, "member").want(t, 201)
		b.do(
			chromedp.Navigate(baseURL+"/accept-invitation?ticket="+own.ticket(t, "guest-"+o.Email, "/accept-invitation", 1)),
			chromedp.SendKeys("#password", "Guest@1234"+kb.Enter),
			chromedp.WaitVisible(`//p[text()="You are a member of the organization."]`),
			chromedp.Reload(),
			chromedp.WaitVisible(`//p[contains(., "Open the link in the mail once more")]`),
		)
		mustLogin(c, "guest-"+o.Email, "Guest@1234")
	})
	t.Run("problem", func(t *testing.T) {
		b := newBrowser(t, "/problems/name-taken")
		b.do(chromedp.Click(`//a[text()="email-taken"]`), chromedp.WaitVisible(`//h1[contains(., "/problems/email-taken")]`))
	})
}

func asJSON(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(data)
}

// browser is a tab of Chromium. The test fails at its end if the console has an
// error, or if something could not be loaded or was refused.
type browser struct {
	t   *testing.T
	ctx context.Context

	mu     sync.Mutex
	errors []string
}

func newBrowser(t *testing.T, page string) *browser {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.WindowSize(1280, 900))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // root can't have one
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	t.Cleanup(cancel)
	b := &browser{t: t}
	b.ctx, cancel = chromedp.NewContext(ctx, chromedp.WithAllocatorOptions(options...), chromedp.WithListener(b.listen))
	t.Cleanup(cancel)
	t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, e := range b.errors {
			t.Error(e)
		}
	})
	_, err := chromedp.Call(b.ctx, network.Enable, network.EnableParams{})
	if err == nil {
		_, err = chromedp.Call(b.ctx, log.Enable, cdp.Empty{})
	}
	if err != nil {
		t.Fatal(err)
	}
	b.do(chromedp.Navigate(baseURL + page))
	return b
}

// listen collects the errors of the page. An error status of an operation is not
// one: try checks it.
func (b *browser) listen(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			b.errors = append(b.errors, fmt.Sprintf("console: %s %s", e.Type, asJSON(e.Args)))
		}
	case *runtime.EventExceptionThrown:
		b.errors = append(b.errors, "exception: "+asJSON(e.ExceptionDetails))
	case *log.EventEntryAdded:
		if isOperation := strings.Contains(e.Entry.URL, "/org/") || strings.Contains(e.Entry.URL, "/admin/"); !isOperation {
			b.errors = append(b.errors, fmt.Sprintf("log: %s %s %s", e.Entry.Level, e.Entry.Text, e.Entry.URL))
		}
	case *network.EventLoadingFailed:
		b.errors = append(b.errors, "not loaded: "+e.ErrorText+" "+string(e.BlockedReason))
	}
}

func (b *browser) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, actions...); err != nil {
		b.picture("failure.png")
		b.t.Fatal(err)
	}
}

// picture stores what the tab shows.
func (b *browser) picture(name string) {
	b.t.Helper()
	png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.WriteFile(filepath.Join(b.t.ArtifactDir(), name), png, 0o600)
	}
	if err != nil {
		b.t.Errorf("%s: %v", name, err)
	}
}

// try executes an operation with "Try it out": with the value of its parameter and
// its body, unless they are empty. The answer must have the status.
func (b *browser) try(operation, parameter, body string, status int) {
	b.t.Helper()
	within := func(selector string) string {
		return fmt.Sprintf(`//*[substring(@id, string-length(@id) - %d) = "-%s" and contains(@class, "opblock")]%s`, len(operation), operation, selector)
	}
	// As long as the page reads the operation, it shows a sign, and executes nothing.
	ready := `//*[contains(@class, "opblock-body") and not(.//*[contains(@class, "opblock-loading-animation")])]//button[contains(@class, "execute")]`
	b.do(chromedp.Click(within(`//*[contains(@class, "opblock-summary-control")]`)), chromedp.WaitVisible(within(ready)))
	replace := func(selector, value string) {
		b.do(
			chromedp.Click(selector),
			chromedp.KeyEvent("a", chromedp.KeyModifiers(chromedp.ModifierCtrl)), // select all
			chromedp.SendKeys(selector, kb.Delete+value),
		)
	}
	if parameter != "" {
		replace(within(`//tr[@data-param-name]//input`), parameter)
	}
	if body != "" {
		replace(within(`//textarea[contains(@class, "body-param__text")]`), body)
	}
	code := within(`//table[contains(@class, "live-responses-table")]/tbody/tr[1]/td[contains(@class, "response-col_status")]`)
	b.do(chromedp.Click(within(`//button[contains(@class, "execute")]`)))
	shown, err := chromedp.Run(b.ctx, chromedp.Text(code))
	if shown, _, _ = strings.Cut(shown, "\n"); err != nil || shown != fmt.Sprint(status) {
		b.picture(operation + ".png")
		b.t.Errorf("%s shows the status %q, want %d: %v", operation, shown, status, err)
	}
	b.do(
		chromedp.Click(within(`//button[contains(@class, "btn-clear")]`)), // so that the next time finds no old status
		chromedp.Click(within(`//*[contains(@class, "opblock-summary-control")]`)),
	)
}
