@echo off
rem Install, start the three services, wait until they are healthy, offer the walk-through. Ctrl-C stops them.
rem   start-demo.bat          start and run until Ctrl-C
rem   start-demo.bat --demo   play the walk-through and exit, with errorlevel 0 only if every phase passed
rem The Python launcher does the rest. On Windows the services run under waitress, one process each.
setlocal
cd /d "%~dp0"
set PYTHONUTF8=1
set VENV_PYTHON=.venv\Scripts\python.exe
set CHECK=import sys; sys.exit(sys.version_info ^< (3, 11))

if exist %VENV_PYTHON% goto install
set PYTHON=py -3
%PYTHON% -c "%CHECK%" >nul 2>nul
if not errorlevel 1 goto create
set PYTHON=python
%PYTHON% -c "%CHECK%" >nul 2>nul
if not errorlevel 1 goto create
echo Python 3.11 or later is needed: https://www.python.org/downloads/
goto failed

:create
echo Creating .venv
%PYTHON% -m venv .venv
if errorlevel 1 goto failed

:install
fc /b requirements.lock .venv\requirements.lock >nul 2>nul
if not errorlevel 1 goto start
echo Installing requirements.lock
%VENV_PYTHON% -m pip --disable-pip-version-check install --quiet --require-hashes --requirement requirements.lock
if errorlevel 1 goto failed
copy /y requirements.lock .venv\requirements.lock >nul

:start
%VENV_PYTHON% -m scripts up %*
if errorlevel 1 goto failed
if not defined CI pause
exit /b 0

:failed
if not defined CI pause
exit /b 1
