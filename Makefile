# Commands for developers. .ci/run runs the same.
.DEFAULT_GOAL := help

# Environment in which `sam build` compiles the functions: static and small. The
# local gateway uses the same flags, which a test checks.
BUILD_ENV = CGO_ENABLED=0 GOFLAGS='-tags=lambda.norpc -ldflags=-s -buildvcs=false'

##@ Run

.PHONY: run
run: ## run the service on http://127.0.0.1:3000 (PORT), with an embedded database; DEBUG=1 for a debugger
	@$(fetch_redoc)
	@exec local/run.sh

.PHONY: demo
demo: ## show what the running service does, request by request: make demo URL=https://…
	@go run ./local demo '$(URL)'

.PHONY: orgs
orgs: ## list the organizations in the database, the newest first: make orgs N=100
	@go run ./local orgs '$(N)'

.PHONY: operator
# The text of DO is for the program, and not for the shell.
operator: export DO := $(value DO)
operator: ## list, show, suspend, rename, restore, purge or invite: make operator DO='suspend 6b06… unpaid' URL=https://…
	@go run ./local $(if $(URL),-url '$(URL)') operator

.PHONY: invoke
invoke: ## send an event to a function: make invoke FN=create EVENT=events/create.json
	@go run ./local invoke '$(FN)' '$(or $(EVENT),events/$(FN).json)'

.PHONY: reconcile
reconcile: ## finish or undo what a crash has left, in the whole database
	@go run ./local reconcile

.PHONY: migrate
migrate: ## carry the database of an older version forward, as reconcile does; STATUS=1 lists the migrations
	@go run ./local migrate $(if $(STATUS),status)

.PHONY: doctor
doctor: ## check the database of MONGO_URL for problems: make doctor TIER=M10
	@go run ./local -tier '$(TIER)' doctor

.PHONY: sam-local
sam-local: ## run the service under SAM CLI, with a Mongo container
	local/sam/start.sh

##@ Test

# In the tests of ALONE, the functions have the time limits of the deployment. So
# nothing else runs beside them.
ALONE = ./local ./local/e2e ./local/gateway
# Of the others, the slowest is the first.
OTHERS = ./shared/org $$(go list ./... | grep -vE '/(local|local/e2e|local/gateway|shared/org)$$')
# A fifth faster, for more memory.
test race: export GOGC = 400

.PHONY: test
test: ## run all tests, on the server of MONGO_URL if that is set
	go test -timeout 20m -parallel 4 $(OTHERS)
	go test -timeout 20m -p 1 -parallel 6 $(ALONE)

.PHONY: race
# The tests that are left out do one thing after the other. They are in make test.
race: ## run the tests of what is concurrent with the race detector (needs a C compiler)
	go test -race -timeout 30m -parallel 4 -skip '^Test(Sim|SimRepeats|Sweep|Crash|CrashInRepair|Glitch|Late|MigrateCrash)$$' \
		$$(go list ./shared/... ./functions/... | grep -v /shared/pages$$) ./local/embedded ./local/mailbox
	go test -race -timeout 30m -p 1 ./local ./local/gateway
	go test -race -timeout 30m -run '^Test(Local|Concurrent|Repeated|BodySize|Encodings|Headers|CORS|Pages)' ./local/e2e # the functions are not under the detector, the gateway is

.PHONY: simulate
simulate: ## simulate a million schedules of the lifecycle: make simulate N=1000 START=1 PROFILE=any
	go test -count=1 -timeout 0 -run '^TestSim$$' ./shared/org -sim.n $(or $(N),1000000) -sim.start $(or $(START),1) -sim.profile '$(or $(PROFILE),any)'

.PHONY: test-java
test-java: ## run the tests on mongo-java-server (needs Java and Maven)
	local/javaserver/test.sh -timeout 20m

# The version that was deployed last. After each deployment this is the revision of that one.
BESIDE = 84d7f8c

.PHONY: test-upgrade
test-upgrade: ## test this version and the one before on one database, in turn: make test-upgrade BESIDE=REVISION
	ORGSERVICE_BESIDE=$(BESIDE) go test -count=1 -timeout 20m ./local/e2e

.PHONY: test-browser
test-browser: ## use /docs and /redoc with Chromium, which must be installed; pictures in local/.data/browser
	@[ -e $(REDOC) ] || local/redoc.sh
	@mkdir -p local/.data/browser
	go test -count=1 -tags browser -run '^TestBrowser$$' -timeout 30m -artifacts -outputdir '$(CURDIR)/local/.data/browser' ./local/e2e

.PHONY: sam-test
sam-test: ## validate, build and test under SAM CLI, in containers
	local/sam/test.sh

.PHONY: test-clients
test-clients: ## let schemathesis and a generated TypeScript client use the service (needs Python and Node.js)
	local/clients/test.sh $(if $(SEED),--seed=$(SEED))

.PHONY: bench
bench: ## measure starts, requests, growth, load and cost, and print them as Markdown (needs Linux): make bench N=51
	@go run ./local/bench -n $(or $(N),51)

.PHONY: fuzz
fuzz: ## run all fuzz targets, for FUZZTIME each
	@go list -f '{{.Dir}}' ./shared/... | while read -r dir; do \
		grep -ho '^func Fuzz[A-Za-z0-9_]*' "$$dir"/*_test.go 2>/dev/null | sed 's/func //' | while read -r target; do \
			go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(or $(FUZZTIME),20s) "$$dir" || exit 1; \
		done || exit 1; \
	done

# One command for each package. The file survivors.txt in the package lists the mutants that may
# survive, with the reasons. All of it takes a day: make mutants PART=3/20 does a
# part of it.
.PHONY: mutants
mutants: ## change the code in small ways and print the changes that no test notices
	@go run ./local/mutants $(if $(PART),-part $(PART)) shared/auth
	@go run ./local/mutants $(if $(PART),-part $(PART)) shared/org -sim.n=2000 -sim.first

##@ Check and generate

.PHONY: new
new: ## lay out a new function, behind GET /name, and say what is left to do: make new FN=name
	@go run ./local new '$(FN)'

.PHONY: openapi
openapi: ## write shared/api/openapi.json anew, after a change of the API
	go run ./local/openapi

.PHONY: examples
examples: openapi ## record the examples of shared/api/openapi.json anew, after a change of what the service answers
	go test ./local/e2e -run '^TestExamples$$' -count=1 -update
	go run ./local/openapi

# The page /redoc needs ReDoc, which npm has. All else works without it.
REDOC = shared/pages/redoc/redoc.standalone.js.gz
fetch_redoc = [ -e $(REDOC) ] || ! command -v npm >/dev/null || local/redoc.sh 2>/dev/null || echo "without ReDoc: make redoc says why"

.PHONY: redoc
redoc: ## fetch ReDoc from npm for the page /redoc, before the next build
	local/redoc.sh

.PHONY: breaking
breaking: ## check that the API breaks no client of the released one, or raises the major version
	go -C local/breaking test -count=1 .

.PHONY: released
released: breaking ## record the API as released, for make breaking
	cp shared/api/openapi.json local/openapi/released.json

.PHONY: lint
lint: ## check formatting, go vet, staticcheck, go.mod
	@unformatted=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); \
		if [ -n "$$unformatted" ]; then echo "gofmt would change:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	GOOS=darwin go vet ./...
	go vet -tags browser ./local/e2e
	go tool staticcheck ./...
	go mod tidy -diff
	go mod verify
	go -C local/breaking mod tidy -diff

# checkov needs other versions of some packages than SAM CLI, and so an environment of its own.
CHECKOV = local/.data/checkov

.PHONY: checkov
checkov: ## check the templates of the deployment with checkov (needs Python)
	@cmp -s local/sam/checkov/requirements.txt $(CHECKOV)/requirements.txt || { python3 -m venv --clear $(CHECKOV) && \
		$(CHECKOV)/bin/pip install -q --disable-pip-version-check --no-deps -r local/sam/checkov/requirements.txt && \
		cp local/sam/checkov/requirements.txt $(CHECKOV); }
	$(CHECKOV)/bin/checkov --config-file local/sam/checkov/checkov.yaml

.PHONY: vuln
vuln: ## known vulnerabilities in what is linked (asks vuln.go.dev)
	go run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./...

##@ Deploy

.PHONY: build
build: ## build the binaries of the deployment, with SAM CLI
	@$(fetch_redoc)
	go build ./functions/...
	$(BUILD_ENV) sam build

# Each stage is a stack of its own: make deploy STAGE=prod. The answers to the guided deployment are
# in a file of their own. SAM CLI does not keep the connection strings. So it asks again, with the
# answers before as defaults, until there is a stack. With CONFIRM=no it asks nothing about the changes.
# With GRADUAL=Canary10Percent5Minutes, traffic goes to the new functions step by step.
DEPLOYMENT = samconfig.$(or $(STAGE),deploy).toml
SAM_CONFIG = --config-file '$(CURDIR)/$(DEPLOYMENT)'
# The last one is the answer.
stack_name = $$(sed -n 's/^stack_name = "\(.*\)"/\1/p' $(DEPLOYMENT) | tail -n 1)

.PHONY: stage
stage:
	@case '$(STAGE)' in *[!A-Za-z0-9-]* | deploy) echo "STAGE is letters, digits and -, and not deploy"; exit 1;; esac

$(DEPLOYMENT): | stage
	@sed -E '/^(stack_name|s3_prefix) =/s/"$$/$(STAGE:%=-%)"/' samconfig.toml >$@.new && mv $@.new $@

.PHONY: deploy
deploy: stage build $(DEPLOYMENT) ## deploy to AWS, guided until the first success: make deploy STAGE=prod GRADUAL=Canary10Percent5Minutes
	@$(if $(GRADUAL),local/sam/gradual.sh .aws-sam/build/template.yaml '$(GRADUAL)')
	@sam list stack-outputs $(SAM_CONFIG) --stack-name "$(stack_name)" --output json 2>/dev/null | grep -q '"ApiUrl"' || guided=--guided; \
		sam deploy $$guided $(SAM_CONFIG) $(if $(filter no,$(CONFIRM)),--no-confirm-changeset) || \
		{ echo "Your answers are kept. If the stack can't be updated (ROLLBACK_COMPLETE), make undeploy deletes what is left of it."; exit 1; }

.PHONY: undeploy
undeploy: stage $(DEPLOYMENT) ## delete the stack
	sam delete $(SAM_CONFIG)

##@ Help

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^##@/ { print "\n" substr($$0, 5) } /^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
